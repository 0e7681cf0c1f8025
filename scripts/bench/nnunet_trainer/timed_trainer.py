"""nnU-Net's own trainer, except that it ends after a given time; nnU-Net finds it by `nnUNet_extTrainer`.

The environment sets it up: UNET_PEER_MINUTES of training, in epochs of UNET_PEER_ITERATIONS. The learning rate falls as
nnU-Net's does, by the share of the time that is spent in place of the share of the epochs. Network, loss, optimiser,
augmentation and batches are nnU-Net's.
"""

import os
from time import monotonic

import torch
from batchgenerators.utilities.file_and_folder_operations import join, save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net validates on a fifth as many batches as it trains on.
ITERATIONS_PER_VALIDATION = 5
EXPONENT = 0.9


class TimedTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.seconds_allowed = 60 * float(os.environ["UNET_PEER_MINUTES"])
        self.num_iterations_per_epoch = int(os.environ["UNET_PEER_ITERATIONS"])
        self.num_val_iterations_per_epoch = max(1, self.num_iterations_per_epoch // ITERATIONS_PER_VALIDATION)
        self.save_every = 2
        # The time of training alone: it has waiting for batches, and no validation, checkpoints or start.
        self.seconds_before, self.epoch_began, self.iterations = 0.0, None, 0

    def seconds_spent(self):
        return self.seconds_before + (0.0 if self.epoch_began is None else monotonic() - self.epoch_began)

    def configure_optimizers(self):
        optimizer, _ = super().configure_optimizers()
        return optimizer, self

    def step(self, _epoch=None):
        """Sets the learning rate by the time that is spent; nnU-Net calls it as its scheduler's step."""
        left = max(0.0, 1 - self.seconds_spent() / self.seconds_allowed)
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * left**EXPONENT

    def train_step(self, batch):
        self.step()
        self.iterations += 1
        return super().train_step(batch)

    def run_training(self):
        """nnU-Net's loop, which ends when the time is spent, not after a number of epochs."""
        self.on_train_start()
        while self.seconds_spent() < self.seconds_allowed:
            self.on_epoch_start()
            self.on_train_epoch_start()
            self.epoch_began, outputs = monotonic(), []
            while len(outputs) < self.num_iterations_per_epoch and self.seconds_spent() < self.seconds_allowed:
                outputs.append(self.train_step(next(self.dataloader_train)))
            self.seconds_before, self.epoch_began = self.seconds_spent(), None
            self.on_train_epoch_end(outputs)
            with torch.no_grad():
                self.on_validation_epoch_start()
                batches = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in batches])
            self.on_epoch_end()
        self.on_train_end()
        spent = dict(seconds=self.seconds_spent(), steps=self.iterations, epochs=self.current_epoch)
        save_json(spent, join(self.output_folder, "spent.json"))

    def perform_actual_validation(self, save_probabilities=False):
        """Left out: it predicts the training slices. The held-out ones are predicted by nnUNetv2_predict."""

    def save_checkpoint(self, filename):
        # These arguments are saved with the weights and come back with them.
        self.my_init_kwargs["spent"] = (self.seconds_spent(), self.iterations)
        super().save_checkpoint(filename)

    def load_checkpoint(self, filename_or_checkpoint):
        super().load_checkpoint(filename_or_checkpoint)
        self.seconds_before, self.iterations = self.my_init_kwargs["spent"]
