//! Adam over the network's parameters, with its moments kept where a checkpoint can save them.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::native::optimizer::{self, AdamOptions, AdamTensors};

/// Adam with L2 added to the gradient (PyTorch's `Adam(weight_decay=..)`).
#[derive(Debug)]
pub struct Adam {
    params: Vec<Tensor>,
    /// Copies of parameters in 16 bits, updated too. A copy that requires a gradient gets it in place of its parameter.
    working: Vec<Option<Tensor>>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    /// Updates made, `[]` f32 on the device: a skipped update is not counted, without asking the device.
    updates: Tensor,
    options: AdamOptions,
}

impl Adam {
    /// Moments zero, no update made. `params` are shared with the network.
    pub fn new(params: Vec<Tensor>, learning_rate: f64, weight_decay: f64) -> Self {
        let zeros = || params.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
        let device = params.first().map_or(Device::Cpu, Tensor::device);
        Self {
            exp_avgs: tch::no_grad(zeros),
            exp_avg_sqs: tch::no_grad(zeros),
            updates: Tensor::zeros([] as [i64; 0], (Kind::Float, device)),
            working: params.iter().map(|_| None).collect(),
            params,
            options: AdamOptions { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay },
        }
    }

    /// Takes the gradients of these copies from now on, in the order of the parameters.
    pub fn use_working_weights(&mut self, working: Vec<Option<Tensor>>) {
        self.working = working;
    }

    /// The gradients of the last backward pass, in the order of the parameters, which forget them: the next pass writes
    /// instead of adding.
    pub fn take_grads(&mut self) -> Result<Vec<Tensor>> {
        let leaves = self
            .params
            .iter_mut()
            .zip(&mut self.working)
            .map(|(param, working)| working.as_mut().filter(|working| working.requires_grad()).unwrap_or(param));
        leaves
            .map(|leaf| {
                let grad = leaf.grad();
                optimizer::clear_grad(leaf)?;
                Ok(grad)
            })
            .collect()
    }

    /// One update from `grads`; where `found_inf` (`[1]` f32) is not 0, nothing changes. `inverse_scale` (`[]` f32)
    /// takes the loss scale out of gradients in 16 bits.
    pub fn step(&mut self, grads: &[Tensor], found_inf: &Tensor, inverse_scale: &Tensor) -> Result<()> {
        tch::no_grad(|| {
            let applied = found_inf.eq(0.0).to_kind(Kind::Float).squeeze();
            // In place: a replayed step finds its count where it was captured.
            let _ = self.updates.g_add_(&applied);
            let Self { params, working, exp_avgs, exp_avg_sqs, updates, options } = self;
            let tensors = AdamTensors { params, grads, exp_avgs, exp_avg_sqs, working };
            // A skipped first update would divide by 1 - beta^0 = 0: harmless, as nothing is written then.
            optimizer::adam(&tensors, updates, found_inf, inverse_scale, *options)
        })
    }

    /// The learning rate of the updates from now on.
    pub fn set_learning_rate(&mut self, rate: f64) {
        self.options.learning_rate = rate;
    }

    /// State to save: both moments in the order of the parameters, and the number of updates.
    pub fn state(&self) -> (&[Tensor], &[Tensor], f64) {
        (&self.exp_avgs, &self.exp_avg_sqs, self.updates.double_value(&[]))
    }

    /// Takes over saved state; the shapes are those of the parameters.
    pub fn restore(&mut self, exp_avgs: &[Tensor], exp_avg_sqs: &[Tensor], updates: f64) {
        tch::no_grad(|| {
            for (own, saved) in self.exp_avgs.iter_mut().zip(exp_avgs) {
                own.copy_(saved);
            }
            for (own, saved) in self.exp_avg_sqs.iter_mut().zip(exp_avg_sqs) {
                own.copy_(saved);
            }
            let _ = self.updates.fill_(updates);
        });
    }
}
