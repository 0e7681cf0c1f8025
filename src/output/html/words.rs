//! Settings and data of a run in words, from its `config.json` and `eval.json`.

use serde_json::Value;

/// Subjects, and what there is to say of each. What a file does not tell is left out.
pub fn facts(settings: Option<&Value>, scores: Option<&Value>) -> Vec<(&'static str, String)> {
    let Some(settings) = settings else {
        return vec![("Run", "its settings are not known: there is no config.json".to_owned())];
    };
    let parts = [
        ("Run", program(settings)),
        ("Data", data(settings)),
        ("Network", network(settings, scores)),
        ("Training", training(settings)),
        ("Recipe", recipe(settings)),
    ];
    parts.into_iter().filter_map(|(subject, words)| Some((subject, joined(words)?))).collect()
}

fn joined(words: Vec<Option<String>>) -> Option<String> {
    let known: Vec<String> = words.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// A setting as text; `None` where it is absent or null.
fn text(settings: &Value, key: &str) -> Option<String> {
    match settings.get(key)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn count(settings: &Value, key: &str) -> Option<usize> {
    settings.get(key)?.as_array().map(Vec::len)
}

fn is_set(settings: &Value, key: &str) -> bool {
    settings.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn program(settings: &Value) -> Vec<Option<String>> {
    let ranks = settings.get("world_size").and_then(Value::as_u64).filter(|&ranks| ranks > 1);
    vec![
        text(settings, "unet_version").map(|version| format!("unet {version}")),
        text(settings, "libtorch_version").map(|version| format!("libtorch {version}")),
        text(settings, "device"),
        text(settings, "precision"),
        ranks.map(|ranks| format!("{ranks} processes")),
    ]
}

fn data(settings: &Value) -> Vec<Option<String>> {
    let images = settings.get("datasets").and_then(|sets| sets.get(0)).and_then(|set| {
        let number = |key: &str| set.get(key)?.as_i64();
        let size = format!("{} x {}", number("width")?, number("height")?);
        let pages = number("pages")?;
        Some(if pages == 1 { format!("1 slice of {size}") } else { format!("{pages} slices of up to {size} pixels") })
    });
    vec![
        text(settings, "data_dir"),
        images,
        count(settings, "train_slices").map(|slices| format!("{slices} to train on")),
        count(settings, "validation_slices").filter(|&slices| slices > 0).map(|slices| format!("{slices} to validate")),
        text(settings, "split").map(|split| format!("split: {split}")),
    ]
}

fn network(settings: &Value, scores: Option<&Value>) -> Vec<Option<String>> {
    let names = |list: Option<&Value>| -> Option<Vec<String>> {
        list?.as_array()?.iter().map(|class| Some(class.get("name")?.as_str()?.to_owned())).collect()
    };
    let of_map = || names(settings.get("label_map").and_then(|map| map.get("classes")));
    let classes = names(scores.and_then(|scores| scores.get("classes"))).or_else(of_map);
    let channels = settings.get("channels").and_then(Value::as_u64);
    vec![
        text(settings, "base_filters").map(|filters| format!("U-Net of {filters} filters at its first level")),
        channels.map(|count| if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") }),
        classes.map(|names| format!("{} classes ({})", names.len(), names.join(", "))),
    ]
}

fn training(settings: &Value) -> Vec<Option<String>> {
    let schedule = text(settings, "schedule").filter(|schedule| schedule != "constant");
    let rate = text(settings, "learning_rate").map(|rate| match schedule {
        Some(schedule) => format!("learning rate {rate} ({schedule})"),
        None => format!("learning rate {rate}"),
    });
    let augment = if is_set(settings, "augment") { "augmented" } else { "not augmented" };
    vec![
        text(settings, "max_steps").map(|steps| format!("{steps} steps")),
        text(settings, "batch_size").map(|batch| format!("batches of {batch}")),
        rate,
        settings.get("augment").map(|_| augment.to_owned()),
        text(settings, "seed").map(|seed| format!("seed {seed}")),
        text(settings, "init_from").map(|path| format!("from the weights of {path}")),
    ]
}

fn recipe(settings: &Value) -> Vec<Option<String>> {
    let name = settings.get("recipe").and_then(|recipe| recipe.get("name")).and_then(Value::as_str);
    vec![name.map(|name| match name {
        "reference" => "reference: images are resized to the network's output".to_owned(),
        "native" => match text(settings, "patch") {
            Some(side) => format!("native: windows of {side} x {side} pixels at the stored resolution"),
            None => "native: windows at the stored resolution".to_owned(),
        },
        other => other.to_owned(),
    })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_and_data_are_told_in_words() {
        let settings = json!({
            "unet_version": "1.2.3", "device": "CPU", "precision": "float32", "world_size": 2, "base_filters": 16,
            "batch_size": 4, "max_steps": 100, "learning_rate": 1e-4, "schedule": "cosine", "augment": true, "seed": 7,
            "init_from": null, "data_dir": "cells", "channels": 3, "recipe": {"name": "native"}, "patch": 388,
            "label_map": {"classes": [{"name": "wall", "values": [0]}, {"name": "cell", "values": [1]}]},
            "datasets": [{"pages": 30, "height": 512, "width": 640}],
            "train_slices": [0, 1, 2], "validation_slices": [3],
        });
        let expected = [
            ("Run", "unet 1.2.3, CPU, float32, 2 processes"),
            ("Data", "cells, 30 slices of up to 640 x 512 pixels, 3 to train on, 1 to validate"),
            ("Network", "U-Net of 16 filters at its first level, 3 channels, 2 classes (wall, cell)"),
            ("Training", "100 steps, batches of 4, learning rate 0.0001 (cosine), augmented, seed 7"),
            ("Recipe", "native: windows of 388 x 388 pixels at the stored resolution"),
        ];
        assert_eq!(facts(Some(&settings), None), expected.map(|(subject, words)| (subject, words.to_owned())));
        let scores = json!({"classes": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
        assert!(facts(Some(&settings), Some(&scores))[2].1.ends_with("3 classes (a, b, c)"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(facts(Some(&json!({"seed": 1})), None), [("Training", "seed 1".to_owned())]);
        assert_eq!(facts(None, None)[0].0, "Run");
    }
}
