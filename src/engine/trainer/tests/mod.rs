mod ranks;
mod step;
