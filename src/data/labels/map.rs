//! The label map: which stored values are which class. Given by `--label_map`, by a dataset's own description, or
//! guessed from values that leave no doubt.

use std::collections::{BTreeSet, HashMap};
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::found::{LabelValues, map_pixels};
use super::{IGNORED, LabelValue, MOST_CLASSES};
use crate::data::samples::{Palette, Samples};

/// The name that stands for no class in a map.
const IGNORE: &str = "ignore";
/// A class that has fewer than one pixel of so many is hardly meant.
const RARE: u64 = 10_000;
/// What stands for all values that a map does not list.
const OTHERS: &str = "*";

/// One class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    pub name: String,
    /// The stored values that mean it. Masks are written with the first.
    pub values: Vec<LabelValue>,
    /// Whether values that no class lists mean it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub others: bool,
}

/// The classes in the order of their indices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelMap {
    pub classes: Vec<Class>,
    /// Values of pixels that enter neither loss nor scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<LabelValue>,
    /// Whether values that no class lists are ignored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_others: bool,
}

impl LabelMap {
    /// Two classes of these names: value 0, and `value`.
    pub fn of_two([first, second]: [&str; 2], value: u32) -> Self {
        let class = |name: &str, value| Class { name: name.to_owned(), values: vec![value], others: false };
        Self {
            classes: vec![class(first, LabelValue::Grey(0)), class(second, LabelValue::Grey(value))],
            ignored: Vec::new(),
            ignores_others: false,
        }
    }

    /// From the text of `--label_map`: the path of a JSON file, or `0,32=membrane;255=inside;7=ignore`, where `*`
    /// stands for all values that are not listed. The order of the classes is that of their indices.
    ///
    /// Errors: a value or name twice, fewer than two classes or more than [`MOST_CLASSES`], a file that is none.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains('=') {
            let entries = text.split(';').filter(|entry| !entry.trim().is_empty()).map(|entry| {
                let (values, name) = entry
                    .split_once('=')
                    .with_context(|| format!("'{entry}' in the label map has no '='; write value,value=name"))?;
                let values = values.split(',').map(|value| value.trim().to_owned()).collect();
                Ok((name.trim().to_owned(), values))
            });
            return Self::from_entries(entries.collect::<Result<Vec<_>>>()?);
        }
        let read = || -> Result<Self> {
            let json: Value = serde_json::from_slice(&fs::read(text)?)?;
            let classes =
                json.as_object().context("expected an object such as {\"membrane\": [0], \"inside\": 255}")?;
            let word = |value: &Value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let entries = classes.iter().map(|(name, values)| match values {
                Value::Array(values) => (name.clone(), values.iter().map(word).collect()),
                value => (name.clone(), vec![word(value)]),
            });
            Self::from_entries(entries.collect())
        };
        read().with_context(|| {
            format!("cannot use --label_map '{text}'; give value,value=name;value=name or the path of a JSON file")
        })
    }

    /// From names and the texts of their values.
    fn from_entries(entries: Vec<(String, Vec<String>)>) -> Result<Self> {
        let mut map = Self { classes: Vec::new(), ignored: Vec::new(), ignores_others: false };
        for (name, texts) in entries {
            ensure!(!name.is_empty(), "a class of the label map has no name; write value=name");
            let others = texts.iter().any(|text| text == OTHERS);
            let values = texts.iter().filter(|text| *text != OTHERS).map(|text| text.parse::<LabelValue>());
            let values = values.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?;
            if name == IGNORE {
                map.ignored.extend(values);
                map.ignores_others |= others;
            } else {
                map.classes.push(Class { name, values, others });
            }
        }
        map.check()?;
        map.name_values_of_others();
        Ok(map)
    }

    fn check(&self) -> Result<()> {
        let count = self.classes.len();
        ensure!(
            (2..=MOST_CLASSES).contains(&count),
            "the label map has {count} classes, expected 2 to {MOST_CLASSES}; write value=name;value=name"
        );
        let mut names = BTreeSet::new();
        if let Some(class) = self.classes.iter().find(|class| !names.insert(&class.name)) {
            bail!("the label map has the class '{}' twice; list its values as value,value=name", class.name);
        }
        let mut seen = BTreeSet::new();
        if let Some(value) = self.listed().find(|value| !seen.insert(*value)) {
            bail!("the label map has the value {value} twice; give it to one class");
        }
        let mut written = self.classes.iter().filter_map(|class| Some((class, class.values.first()?)));
        if let Some((class, value)) = written.find(|(_, value)| matches!(value, LabelValue::Grey(65_536..))) {
            bail!(
                "the label map has {value} as the value that masks are written with for the class '{}', and masks have \
                 16 bits; list a value up to 65535 before it, such as 1,{value}={}",
                class.name,
                class.name
            );
        }
        let takes_others = self.classes.iter().filter(|class| class.others).count() + usize::from(self.ignores_others);
        ensure!(takes_others <= 1, "the label map has '*' for two classes; give the other values to one");
        let grey = self.listed().filter(|value| matches!(value, LabelValue::Grey(_))).count();
        ensure!(
            grey == 0 || grey == seen.len(),
            "the label map mixes numbers and colours; use those that the label images store"
        );
        Ok(())
    }

    /// A class that lists no value is written with the smallest number above 0 that no class lists.
    fn name_values_of_others(&mut self) {
        let listed: BTreeSet<LabelValue> = self.listed().collect();
        let free = (1..).map(LabelValue::Grey).find(|value| !listed.contains(value));
        for class in self.classes.iter_mut().filter(|class| class.values.is_empty()) {
            class.values.extend(free);
        }
    }

    fn listed(&self) -> impl Iterator<Item = LabelValue> {
        self.classes.iter().flat_map(|class| &class.values).chain(&self.ignored).copied()
    }

    /// The map for labels of these values: the user's, else that of the trained network, else that of the dataset's own
    /// description, else a guess.
    ///
    /// Errors: a user's map unlike the trained network's, and those of [`Self::guess`].
    pub fn choose(
        found: &LabelValues,
        given: Option<&Self>,
        trained: Option<&Self>,
        described: Option<&Self>,
        names: [&str; 2],
    ) -> Result<Self> {
        if let Some(value) = found.not_whole() {
            bail!("label value {value}, expected whole numbers; save the labels as integers");
        }
        if let (Some(given), Some(trained)) = (given, trained)
            && given != trained
        {
            bail!(
                "--label_map says {}, the network was trained with {}; leave the flag out to take the network's",
                given.describe(),
                trained.describe()
            );
        }
        let map = match given.or(trained).or(described) {
            Some(map) => map.clone(),
            None => return Self::guess(&found.plain(), names),
        };
        // Two classes are the same whether the second is stored as 1 or as 255.
        if map.is_plain_pair() && map.require(&map.reading(found)).is_err() && given.is_none() {
            let pair = Self::guess(&found.plain(), names).ok().filter(Self::is_plain_pair);
            return Ok(pair.map_or(map.clone(), |pair| pair.with_names_of(&map)));
        }
        Ok(map)
    }

    fn with_names_of(mut self, other: &Self) -> Self {
        for (class, other) in self.classes.iter_mut().zip(&other.classes) {
            class.name.clone_from(&other.name);
        }
        self
    }

    /// `found` as this map reads it: palette indices as colours where the map speaks of colours, grey colours as
    /// numbers where it speaks of numbers.
    pub fn reading(&self, found: &LabelValues) -> LabelValues {
        if self.lookup().has_colours() { found.as_colours() } else { found.plain() }
    }

    /// Pixels of each class.
    pub fn pixels(&self, found: &LabelValues) -> Vec<u64> {
        let lookup = self.lookup();
        let mut pixels = vec![0; self.classes.len()];
        for (value, count) in found.counts() {
            if let Some(pixels) = lookup.class(value).and_then(|class| pixels.get_mut(usize::from(class))) {
                *pixels += count;
            }
        }
        pixels
    }

    /// The map of a dataset that brings none, from all of its label values; `names` are those of two classes.
    ///
    /// 0 and one of 1, 255 or 65,535 are two classes; 0 to N - 1 are N.
    ///
    /// Errors: other values; the message has them with their shares, and a map to start from.
    pub fn guess(found: &LabelValues, names: [&str; 2]) -> Result<Self> {
        let values = found.values();
        let others: Vec<LabelValue> = values.iter().copied().filter(|&value| value != LabelValue::Grey(0)).collect();
        match others[..] {
            [] => return Ok(Self::of_two(names, 255)),
            [LabelValue::Grey(value @ (1 | 255 | 65_535))] => return Ok(Self::of_two(names, value)),
            _ => {}
        }
        let consecutive = (0..).zip(&values).all(|(index, value)| *value == LabelValue::Grey(index));
        if consecutive && !found.overflowed() && values.len() <= MOST_CLASSES {
            let class = |value| Class { name: format!("class_{value}"), values: vec![value], others: false };
            return Ok(Self {
                classes: values.into_iter().map(class).collect(),
                ignored: Vec::new(),
                ignores_others: false,
            });
        }
        bail!("label values {}; {}", found.shares(), found.advice())
    }

    /// From the names that a dataset's own description gives its values, such as nnU-Net's `labels`.
    pub fn named(labels: impl IntoIterator<Item = (String, Vec<LabelValue>)>) -> Result<Self> {
        let texts = |values: Vec<LabelValue>| values.iter().map(LabelValue::to_string).collect();
        Self::from_entries(labels.into_iter().map(|(name, values)| (name, texts(values))).collect())
    }

    /// Errors: values of `found` that the map does not know. The result are warnings: classes that no label has, and
    /// labels that are all of one class.
    pub fn require(&self, found: &LabelValues) -> Result<Vec<String>> {
        let lookup = self.lookup();
        let values = found.values();
        let unknown: Vec<String> =
            values.iter().filter(|value| lookup.class(**value).is_none()).map(LabelValue::to_string).collect();
        if !unknown.is_empty() {
            bail!(
                "the label map does not know the values {}; give each a class, or add '{}={IGNORE}'; {}",
                shorten(&unknown),
                unknown[0],
                format_args!("found are {}", found.shares())
            );
        }
        let mut warnings = Vec::new();
        let present: BTreeSet<u8> = values.iter().filter_map(|&value| lookup.class(value)).collect();
        let classes: Vec<u8> = (0..self.classes.len() as u8).filter(|class| present.contains(class)).collect();
        if let [class] = classes[..] {
            let name = &self.classes[usize::from(class)].name;
            warnings.push(format!("all labels are of the class '{name}': there is nothing to learn"));
        } else {
            let absent: Vec<&str> =
                self.names().zip(0..).filter(|(_, c)| !present.contains(c)).map(|(n, _)| n).collect();
            if !absent.is_empty() {
                warnings.push(format!("no label has the class {}", absent.join(", ")));
            }
            let pixels = self.pixels(found);
            let total: u64 = pixels.iter().sum();
            let is_rare = |(_, pixels): &(&str, u64)| *pixels > 0 && pixels.saturating_mul(RARE) < total;
            let rare = self.names().zip(pixels).filter(is_rare);
            warnings
                .extend(rare.map(|(name, pixels)| format!("the class {name} has {pixels} of {total} label pixels")));
        }
        Ok(warnings)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.name.as_str())
    }

    /// The value that each class is written with, in the order of the class indices.
    pub fn written_values(&self) -> Vec<LabelValue> {
        self.classes.iter().map(|class| class.values[0]).collect()
    }

    /// Whether some labels may be ignored.
    pub fn has_ignored(&self) -> bool {
        self.ignores_others || !self.ignored.is_empty()
    }

    /// Whether this is the map of the ISBI 2012 challenge: 0 and one other value, nothing ignored.
    pub fn is_plain_pair(&self) -> bool {
        let plain = |class: &Class| !class.others && class.values.len() == 1;
        self.classes.len() == 2
            && self.classes.iter().all(plain)
            && !self.has_ignored()
            && self.classes[0].values[0] == LabelValue::Grey(0)
    }

    /// What finds the classes of many pixels.
    pub fn lookup(&self) -> Lookup {
        let mut classes = HashMap::new();
        let mut others = self.ignores_others.then_some(IGNORED);
        for (index, class) in (0u8..).zip(&self.classes) {
            classes.extend(class.values.iter().map(|&value| (value, index)));
            if class.others {
                others = Some(index);
            }
        }
        classes.extend(self.ignored.iter().map(|&value| (value, IGNORED)));
        let small = (0..256).map(|value| classes.get(&LabelValue::Grey(value)).copied().or(others)).collect();
        let has_colours = classes.keys().any(|value| matches!(value, LabelValue::Colour(_)));
        Lookup { classes, others, small, has_colours }
    }

    /// The classes with their shares of `pixels`, which has a number for each: `membrane 21.50 %, inside 78.50 %`.
    pub fn describe_shares(&self, pixels: &[u64]) -> String {
        let total = pixels.iter().sum::<u64>().max(1) as f64;
        let share = |(name, &pixels): (&str, &u64)| format!("{name} {:.2} %", 100.0 * pixels as f64 / total);
        self.names().zip(pixels).map(share).collect::<Vec<_>>().join(", ")
    }

    /// One line for people: `0,32=membrane; 255=inside`.
    pub fn describe(&self) -> String {
        let entry = |name: &str, values: &[LabelValue], others: bool| {
            let mut values: Vec<String> = values.iter().map(LabelValue::to_string).collect();
            if others {
                values.push(OTHERS.to_owned());
            }
            format!("{}={name}", values.join(","))
        };
        let classes = self.classes.iter().map(|class| entry(&class.name, &class.values, class.others));
        let ignored = self.has_ignored().then(|| entry(IGNORE, &self.ignored, self.ignores_others));
        classes.chain(ignored).collect::<Vec<_>>().join(";")
    }
}

/// The first of many words.
fn shorten(words: &[String]) -> String {
    const MOST: usize = 8;
    let more = if words.len() > MOST { ", ..." } else { "" };
    format!("{}{more}", words[..words.len().min(MOST)].join(", "))
}

/// Finds classes by stored values.
pub struct Lookup {
    classes: HashMap<LabelValue, u8>,
    others: Option<u8>,
    /// The classes of the values 0 to 255.
    small: Vec<Option<u8>>,
    has_colours: bool,
}

impl Lookup {
    /// The class index of a value, [`IGNORED`] for none; `None` where the map does not know the value.
    pub fn class(&self, value: LabelValue) -> Option<u8> {
        match value {
            LabelValue::Grey(value @ 0..256) => self.small[value as usize],
            // A grey image that was saved in colour.
            LabelValue::Colour([red, green, blue]) if !self.has_colours && red == green && green == blue => {
                self.small[usize::from(red)]
            }
            _ => self.classes.get(&value).copied().or(self.others),
        }
    }

    /// The class indices of a label image `[H, W]` whose values the map knows; unknown ones are ignored. With colours
    /// in the map a palette image is read by its colours.
    pub fn classes(&self, samples: Samples<'_>, channels: usize, palette: Option<&Palette>) -> Vec<u8> {
        let palette = palette.filter(|_| self.has_colours);
        map_pixels(samples, channels, palette, |value| self.class(value).unwrap_or(IGNORED))
    }

    /// Whether the map speaks of colours.
    pub fn has_colours(&self) -> bool {
        self.has_colours
    }
}
