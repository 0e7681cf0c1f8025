//! How the work of a step is carried out: as it comes, or with `--xla` planned once and replayed (docs/xla.md).
//!
//! What the work is, the caller says; here is when it is recorded and when replayed. Results are the same either way.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::error;
use crate::native::cuda_graph::CudaGraph;
use crate::native::memory_plan::CpuPlan;

/// One kind of step that is made again and again: training, evaluation or prediction.
pub struct StepRunner(Mode);

enum Mode {
    /// Each step for itself.
    Direct,
    /// On the CPU: memory planned in the first step.
    PlannedMemory(CpuPlan),
    /// On a GPU: kernels captured after warm-up.
    Graph(GraphRunner),
}

impl StepRunner {
    pub fn new(xla: bool, device: Device) -> Result<Self> {
        Ok(Self(match device {
            _ if !xla => Mode::Direct,
            Device::Cuda(_) => Mode::Graph(GraphRunner::default()),
            _ => Mode::PlannedMemory(CpuPlan::new()?),
        }))
    }

    /// The result of `work` on `inputs`.
    ///
    /// With `--xla` the work must be the same each time: it may read and write tensors that the caller keeps, in place,
    /// but on a GPU numbers and branches of the host are those of the step that was captured, and the results are
    /// overwritten by the next step.
    pub fn run<const I: usize, const O: usize>(
        &mut self,
        inputs: [&Tensor; I],
        work: impl FnOnce([&Tensor; I]) -> Result<[Tensor; O]>,
    ) -> Result<[Tensor; O]> {
        match &mut self.0 {
            Mode::Direct => work(inputs),
            Mode::PlannedMemory(plan) => plan.run(|| work(inputs)),
            Mode::Graph(graph) => graph.run(inputs, work),
        }
    }

    /// What the last step on the CPU asked of its plan; `None` without a plan.
    #[cfg(test)]
    pub fn statistics(&self) -> Option<crate::native::memory_plan::Statistics> {
        match &self.0 {
            Mode::PlannedMemory(plan) => Some(plan.statistics()),
            _ => None,
        }
    }
}

/// Ordinary steps before one is captured: cuDNN tries its algorithms in them, and what is made on first use is made.
const WARM_UP_STEPS: u32 = 3;

/// Captures the step for the inputs' first shapes; others are computed as they come.
#[derive(Default)]
struct GraphRunner {
    /// The inputs' shapes in the first step.
    shapes: Vec<InputShape>,
    warm_up_steps: u32,
    captured: Option<CapturedStep>,
}

#[derive(PartialEq)]
struct InputShape {
    size: Vec<i64>,
    kind: Kind,
}

impl GraphRunner {
    fn run<const I: usize, const O: usize>(
        &mut self,
        inputs: [&Tensor; I],
        work: impl FnOnce([&Tensor; I]) -> Result<[Tensor; O]>,
    ) -> Result<[Tensor; O]> {
        let shapes = inputs.map(|input| InputShape { size: input.size(), kind: input.kind() });
        if self.warm_up_steps == 0 {
            self.shapes = Vec::from(shapes);
        } else if self.shapes != shapes {
            return work(inputs);
        }
        if self.warm_up_steps < WARM_UP_STEPS {
            self.warm_up_steps += 1;
            return work(inputs);
        }
        let captured = match self.captured.take() {
            Some(captured) => captured,
            None => CapturedStep::new(inputs, work)
                .context("--xla: cannot capture a step in a CUDA graph; run without --xla")?,
        };
        let outputs = captured.replay(inputs);
        self.captured = Some(captured);
        outputs
    }
}

/// A step whose kernels read `inputs` and write `outputs`, always the same memory.
struct CapturedStep {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    graph: CudaGraph,
}

impl CapturedStep {
    fn new<const I: usize, const O: usize>(
        inputs: [&Tensor; I],
        work: impl FnOnce([&Tensor; I]) -> Result<[Tensor; O]>,
    ) -> Result<Self> {
        let own = inputs.map(Tensor::copy);
        let (graph, outputs) = CudaGraph::capture(|| error::catch(|| work(std::array::from_fn(|i| &own[i]))))?;
        Ok(Self { inputs: Vec::from(own), outputs: Vec::from(outputs), graph })
    }

    fn replay<const I: usize, const O: usize>(&self, inputs: [&Tensor; I]) -> Result<[Tensor; O]> {
        for (own, input) in self.inputs.iter().zip(inputs) {
            own.shallow_clone().copy_(input);
        }
        self.graph.replay()?;
        Ok(std::array::from_fn(|i| self.outputs[i].shallow_clone()))
    }
}
