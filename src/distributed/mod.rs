//! Several processes that work as one: who they are (`environment`), how they start (`launcher`), what they do together
//! (`world`), and the signals that end them (`stop`).

use crate::error::UsageError;
use environment::RankInfo;

pub mod environment;
pub mod launcher;
pub mod stop;
pub mod world;

/// What this process is there for.
pub enum Role {
    /// To start this many workers and look after them.
    Launcher(usize),
    /// To work: as one of several, or alone.
    Worker(Option<RankInfo>),
}

/// The role of a process that was told `--nproc_per_node`; `rank` is what its environment says.
pub fn role(nproc_per_node: Option<usize>, rank: Option<RankInfo>) -> Result<Role, UsageError> {
    match (nproc_per_node, rank) {
        (Some(workers), None) => Ok(Role::Launcher(workers)),
        (Some(workers), Some(rank)) if rank.local_size != Some(workers) => Err(UsageError::new(format!(
            "--nproc_per_node {workers}: but this process was started as one of {} already; leave the flag out under \
             torchrun, mpirun and srun",
            rank.size
        ))),
        (_, rank) => Ok(Role::Worker(rank)),
    }
}
