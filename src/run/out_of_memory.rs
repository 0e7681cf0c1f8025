//! A run that runs out of memory: how much it needs, and what to lower.

use anyhow::anyhow;

use super::inputs::architecture;
use crate::cli::config::Config;
use crate::data::spec::DataSpec;
use crate::engine::precision::Precision;

/// `error` of a run; where memory ran out, one that tells how much the run takes and what to lower.
pub fn explain(error: anyhow::Error, config: &Config) -> anyhow::Error {
    let text = format!("{error:#}");
    // The words of libtorch's allocators for GPUs and for the CPU.
    if !["out of memory", "can't allocate memory", "not enough memory", "bad_alloc"]
        .iter()
        .any(|words| text.contains(words))
    {
        return error;
    }
    let element = Precision::bytes(config.amp);
    let architecture = architecture(config, &DataSpec::isbi());
    let training = config.exec_mode.trains();
    let bytes = architecture.memory(config.batch_size as u64, config.input_side(), element, training);
    let what = if training { "training" } else { "prediction" };
    let amp = if config.amp { "" } else { ", add --amp" };
    anyhow!(
        "out of memory: {what} with --batch_size {} and {} base filters takes about {:.1} GiB, besides the data; lower \
         --batch_size or --base_filters{amp}, or end what else uses this memory ({})",
        config.batch_size,
        architecture.base_filters,
        bytes as f64 / f64::from(1 << 30),
        first_line(&text)
    )
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
