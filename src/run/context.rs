//! What all parts of a run share: how it computes, and where it tells what it does.

use anyhow::Result;
use tch::Device;

use crate::cli::config::Config;
use crate::distributed::environment::RankInfo;
use crate::distributed::world::World;
use crate::engine::precision::Precision;
use crate::engine::step_runner::StepRunner;
use crate::output::logger::{Logger, Volume};
use crate::output::model_dir::ModelDir;
use crate::output::tracker::Tracker;

/// How a run computes: device, precision, replayed steps, and the other processes.
pub struct Compute {
    pub device: Device,
    pub precision: Precision,
    /// Whether steps are planned once and replayed (`--xla`).
    pub xla: bool,
    pub world: World,
}

impl Compute {
    /// What carries out one kind of step; each kind has its own.
    pub fn step_runner(&self) -> Result<StepRunner> {
        StepRunner::new(self.xla, self.device)
    }

    /// What carries out training steps. What ranks exchange in a step is not captured in a CUDA graph: NCCL could no
    /// longer tell a rank that is gone.
    pub fn training_step_runner(&self) -> Result<StepRunner> {
        StepRunner::new(self.xla && !self.exchanges_on_gpu(), self.device)
    }

    /// A warning where training steps are not replayed although `--xla` asks for it.
    pub fn replay_warning(&self) -> Option<&'static str> {
        let text = "--xla does not capture the training steps of several GPUs; evaluation and prediction are";
        (self.xla && self.exchanges_on_gpu()).then_some(text)
    }

    fn exchanges_on_gpu(&self) -> bool {
        self.world.size > 1 && self.device.is_cuda()
    }
}

/// Where a run tells what it does. Only rank 0 writes.
pub struct Journal {
    pub model_dir: ModelDir,
    pub logger: Logger,
    pub tracker: Tracker,
}

impl Journal {
    /// The journal of a process; `rank` is `None` for a process alone.
    pub fn open(config: &Config, model_dir: ModelDir, rank: Option<&RankInfo>) -> Result<Self> {
        let is_main = rank.is_none_or(|rank| rank.rank == 0);
        let volume = if config.quiet { Volume::Quiet } else { Volume::Full };
        let logger = if is_main { Logger::new(config.log_dir.as_deref(), volume)? } else { Logger::silent() };
        let tracker = Tracker::new(&model_dir, is_main && config.benchmark.is_none(), &logger);
        Ok(Self { model_dir, logger, tracker })
    }
}
