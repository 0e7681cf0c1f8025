//! Every random number of a run, as a function of the seed, its purpose and a counter.
//!
//! No generator carries state from step to step. So a resumed run draws what an unbroken one would
//! have drawn, and what is drawn for a sample does not depend on how samples are dealt to batches or ranks.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// What a random stream is for. The numbers are part of what a seed means: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Weights = 1,
    EpochOrder = 2,
    Augmentation = 3,
    Dropout = 4,
    Window = 5,
    GreyChange = 6,
    RareClass = 7,
}

/// The generator for draw number `counter` of `purpose` under `seed`.
pub fn stream(seed: u64, purpose: Purpose, counter: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&counter.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_repeat_and_differ_in_every_part_of_their_key() {
        let draw = |seed, purpose, counter| stream(seed, purpose, counter).random::<u64>();
        let base = draw(7, Purpose::Weights, 3);
        assert_eq!(base, draw(7, Purpose::Weights, 3));
        assert_ne!(base, draw(8, Purpose::Weights, 3));
        assert_ne!(base, draw(7, Purpose::Dropout, 3));
        assert_ne!(base, draw(7, Purpose::Weights, 4));
    }
}
