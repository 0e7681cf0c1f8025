//! Maps from text, from JSON, guessed and refused, and the classes that they give.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::data::samples::{Palette, Samples};

fn found(samples: Samples<'_>, channels: usize, palette: Option<&Palette>) -> LabelValues {
    let mut found = LabelValues::default();
    found.add(samples, channels, palette);
    found
}

fn grey(values: &[u8]) -> LabelValues {
    found(Samples::U8(values), 1, None)
}

const NAMES: [&str; 2] = ["membrane", "inside"];

fn guessed(samples: Samples<'_>) -> anyhow::Result<Vec<u8>> {
    let found = found(samples, 1, None);
    let map = LabelMap::choose(&found, None, None, None, NAMES)?;
    map.require(&found)?;
    Ok(map.lookup().classes(samples, 1, None))
}

#[test]
fn labels_of_each_kind_that_leaves_no_doubt_become_the_same_classes() {
    let expected = vec![0, 1, 1, 0];
    assert_eq!(guessed(Samples::U8(&[0, 255, 255, 0])).unwrap(), expected);
    assert_eq!(guessed(Samples::U8(&[0, 1, 1, 0])).unwrap(), expected);
    assert_eq!(guessed(Samples::U16(&[0, 65_535, 65_535, 0])).unwrap(), expected);
    assert_eq!(guessed(Samples::F32(&[0.0, 1.0, 1.0, 0.0])).unwrap(), expected);
    assert_eq!(guessed(Samples::U8(&[3, 0, 1, 2, 2])).unwrap(), [3, 0, 1, 2, 2]);
    assert_eq!(guessed(Samples::U16(&[3, 0, 1, 2, 2])).unwrap(), [3, 0, 1, 2, 2]);
}

#[test]
fn other_labels_are_refused_with_their_shares_and_a_map_to_start_from() {
    fn refused(samples: Samples<'_>) -> String {
        format!("{:#}", guessed(samples).unwrap_err())
    }
    let message = refused(Samples::U8(&[0, 255, 128, 0]));
    for words in ["0 (50.00 %), 128 (25.00 %), 255 (25.00 %)", "--label_map '0=class_0;128=class_1;255=class_2'"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(guessed(Samples::U8(&[0, 7])).is_err());
    assert!(guessed(Samples::U8(&[1, 2])).is_err(), "numbered from 0");
    let numbers: Vec<u16> = (0..5000).collect();
    let many = refused(Samples::U16(&numbers));
    assert!(many.len() < 400 && many.contains("4992 others") && many.contains("*=object"), "{many}");
    assert!(refused(Samples::F32(&[0.0, 0.5])).contains("0.5"));
    assert!(refused(Samples::F32(&[0.0, -1.0])).contains("-1"));
}

#[test]
fn a_map_has_many_values_to_one_class_ignored_ones_and_all_others() {
    let map = LabelMap::parse("0,32, 64=membrane;159=glia;255=inside;7=ignore").unwrap();
    assert_eq!(map.names().collect::<Vec<_>>(), ["membrane", "glia", "inside"]);
    let classes = map.lookup().classes(Samples::U8(&[32, 159, 255, 7, 0, 64]), 1, None);
    assert_eq!(classes, [0, 1, 2, IGNORED, 0, 0]);
    assert_eq!(map.written_values(), [0, 159, 255].map(LabelValue::Grey));
    assert_eq!(LabelMap::parse(&map.describe()).unwrap(), map);
    let message = format!("{:#}", map.require(&grey(&[0, 8, 9])).unwrap_err());
    assert!(message.contains("values 8, 9") && message.contains("8=ignore"), "{message}");

    let objects = LabelMap::parse("0=outside;*=object").unwrap();
    assert_eq!(objects.lookup().classes(Samples::U16(&[0, 1, 300, 65_535]), 1, None), [0, 1, 1, 1]);
    assert_eq!(objects.written_values(), [0, 1].map(LabelValue::Grey));
    let rest = LabelMap::parse("0=a;1=b;*=ignore").unwrap();
    assert_eq!(rest.lookup().classes(Samples::U8(&[0, 1, 2]), 1, None), [0, 1, IGNORED]);
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<LabelMap>(&json).unwrap(), map);
}

#[test]
fn a_map_is_read_from_a_json_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r##"{"wall": [0, 32], "inside": 255, "ignore": ["7"]}"##).unwrap();
    let map = LabelMap::parse(file.path().to_str().unwrap()).unwrap();
    assert_eq!(map.describe(), "0,32=wall;255=inside;7=ignore");
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let refused = |text: &str| format!("{:#}", LabelMap::parse(text).unwrap_err());
    for (text, words) in [
        ("0=a", "1 classes"),
        ("0=a;0=b", "value 0 twice"),
        ("0=a;1=a", "class 'a' twice"),
        ("0=a;*=b;*=c", "'*' for two"),
        ("0=a;x=b", "'x' is no label value"),
        ("0=a;#12345=b", "'#12345'"),
        ("0=a;#ff0000=b", "mixes numbers and colours"),
        ("0=;1=b", "no name"),
        ("0=a;70000,1=b", "16 bits; list a value up to 65535 before it"),
        ("0=a;1", "'1'"),
        ("nothing.json", "nothing.json"),
    ] {
        assert!(refused(text).contains(words), "{text}: {}", refused(text));
    }
}

#[test]
fn colours_are_mapped_and_grey_ones_are_numbers() {
    let pixels = [255, 0, 0, 0, 0, 0, 255, 0, 0, 0, 128, 255];
    let colours = found(Samples::U8(&pixels), 3, None);
    let message = format!("{:#}", LabelMap::guess(&colours, NAMES).unwrap_err());
    assert!(message.contains("#ff0000 (50.00 %)") && message.contains("#0080ff=class_"), "{message}");
    let map = LabelMap::parse("#000000=none;#ff0000=red;#0080ff=blue").unwrap();
    map.require(&map.reading(&colours)).unwrap();
    assert_eq!(map.lookup().classes(Samples::U8(&pixels), 3, None), [1, 0, 1, 2]);

    let saved_in_colour = [0, 0, 0, 255, 255, 255];
    let values = found(Samples::U8(&saved_in_colour), 3, None);
    let map = LabelMap::choose(&values, None, None, None, NAMES).unwrap();
    assert_eq!(map.written_values(), [0, 255].map(LabelValue::Grey));
    assert_eq!(map.lookup().classes(Samples::U8(&saved_in_colour), 3, None), [0, 1]);
}

#[test]
fn a_palette_is_read_by_its_indices_or_by_its_colours() {
    let palette = Palette(vec![[0, 0, 0], [255, 0, 0], [0, 128, 255]]);
    let (indices, values) = (Samples::U8(&[0, 2, 1]), found(Samples::U8(&[0, 2, 1]), 1, Some(&palette)));
    let by_index = LabelMap::parse("0=a;1,2=b").unwrap();
    assert_eq!(by_index.lookup().classes(indices, 1, Some(&palette)), [0, 1, 1]);
    let by_colour = LabelMap::parse("#000000=a;#ff0000=b;#0080ff=c").unwrap();
    by_colour.require(&by_colour.reading(&values)).unwrap();
    assert_eq!(by_colour.lookup().classes(indices, 1, Some(&palette)), [0, 2, 1]);
    let odd = found(Samples::U8(&[0, 5]), 1, Some(&palette));
    let message = format!("{:#}", LabelMap::guess(&odd, NAMES).unwrap_err());
    assert!(message.contains("0 = #000000"), "{message}");
}

#[test]
fn absent_classes_and_labels_of_one_class_get_a_warning() {
    let map = LabelMap::parse("0=a;1=b;2=c").unwrap();
    assert!(map.require(&grey(&[0, 1, 2])).unwrap().is_empty());
    assert!(map.require(&grey(&[0, 1])).unwrap()[0].contains("class c"));
    assert!(map.require(&grey(&[1, 1])).unwrap()[0].contains("all labels are of the class 'b'"));
    assert_eq!(map.pixels(&grey(&[0, 1, 1, 2])), [1, 2, 1]);
}

#[test]
fn the_map_of_the_trained_network_comes_before_a_guess_and_a_users_before_both() {
    let trained = LabelMap::parse("0=a;1=b;2=c").unwrap();
    let described = LabelMap::parse("0=x;1=y").unwrap();
    let choose = |values: &[u8], given: Option<&LabelMap>, trained: Option<&LabelMap>| {
        LabelMap::choose(&grey(values), given, trained, Some(&described), NAMES)
    };
    assert_eq!(choose(&[0, 1], None, Some(&trained)).unwrap(), trained);
    assert_eq!(choose(&[0, 1], Some(&trained), None).unwrap(), trained);
    assert_eq!(choose(&[0, 1], None, None).unwrap(), described);
    assert!(choose(&[0, 1], Some(&described), Some(&trained)).is_err());
    // Two classes stored otherwise than in training are still the same two.
    let pair = LabelMap::of_two(NAMES, 255);
    let map = choose(&[0, 1], None, Some(&pair)).unwrap();
    assert_eq!(map.written_values(), [0, 1].map(LabelValue::Grey));
    assert_eq!(map.names().collect::<Vec<_>>(), NAMES);
}

/// Values and the entry of a map that each is listed in, which is a class or, for [`CLASSES`], what is ignored.
type Entries = BTreeMap<u16, usize>;

/// Classes of the maps that are drawn.
const CLASSES: usize = 4;

fn entries() -> impl Strategy<Value = Entries> {
    prop::collection::btree_map(prop_oneof![0u16..300, any::<u16>()], 0..=CLASSES, 2..40)
}

/// The text of a map of the classes that have a value, and what each of them is in it; `*` is what `others` says.
fn text_of(entries: &Entries, others: Option<usize>, shown: impl Fn(u16) -> String) -> (String, BTreeMap<usize, u8>) {
    let used: BTreeSet<usize> = entries.values().copied().chain(others).collect();
    let classes: Vec<usize> = used.iter().copied().filter(|&class| class < CLASSES).collect();
    let entry = |class: usize| {
        let listed = entries.iter().filter(|(_, of)| **of == class).map(|(&value, _)| shown(value));
        let values: Vec<String> = listed.chain((others == Some(class)).then(|| "*".to_owned())).collect();
        let name = if class < CLASSES { format!("class {class}") } else { "ignore".to_owned() };
        format!("{}={name}", values.join(","))
    };
    let text: Vec<String> = used.iter().map(|&class| entry(class)).collect();
    let mut indices: BTreeMap<usize, u8> = classes.into_iter().zip(0..).collect();
    indices.insert(CLASSES, IGNORED);
    (text.join(";"), indices)
}

proptest! {
    /// Each stored value is of the class that lists it, of that with `*`, or of none; in numbers of any type, in grey
    /// colours, and by the same map from its own text and from JSON. Compared with the table that the text is made of.
    #[test]
    fn each_stored_value_maps_to_one_class(
        entries in entries(),
        others in prop::option::of(0..=CLASSES),
        image in prop::collection::vec(any::<u16>(), 0..50),
    ) {
        let (text, indices) = text_of(&entries, others, |value| value.to_string());
        // Maps of one class alone are refused.
        prop_assume!(indices.len() > 2);
        let map = LabelMap::parse(&text).unwrap();
        prop_assert_eq!(&LabelMap::parse(&map.describe()).unwrap(), &map);
        prop_assert_eq!(&serde_json::from_str::<LabelMap>(&serde_json::to_string(&map).unwrap()).unwrap(), &map);
        let expected = |value: u16| entries.get(&value).copied().or(others).map(|class| indices[&class]);
        let lookup = map.lookup();
        let image: Vec<u16> = image.into_iter().chain(entries.keys().copied()).collect();
        for &value in &image {
            prop_assert_eq!(lookup.class(LabelValue::Grey(value.into())), expected(value));
        }
        let classes = |values: &[u16]| -> Vec<u8> {
            values.iter().map(|&value| expected(value).unwrap_or(IGNORED)).collect()
        };
        prop_assert_eq!(lookup.classes(Samples::U16(&image), 1, None), classes(&image));
        let floats: Vec<f32> = image.iter().map(|&value| value.into()).collect();
        prop_assert_eq!(lookup.classes(Samples::F32(&floats), 1, None), classes(&image));
        let bytes: Vec<u8> = image.iter().map(|&value| value as u8).collect();
        let words: Vec<u16> = bytes.iter().map(|&value| value.into()).collect();
        prop_assert_eq!(lookup.classes(Samples::U8(&bytes), 1, None), classes(&words));
        let grey: Vec<u8> = bytes.iter().flat_map(|&value| [value; 3]).collect();
        prop_assert_eq!(lookup.classes(Samples::U8(&grey), 3, None), classes(&words));
        // Pixels of each class are counted by the same rule.
        let mut counted = vec![0; map.classes.len()];
        classes(&image).iter().filter(|class| **class != IGNORED).for_each(|&class| counted[usize::from(class)] += 1);
        prop_assert_eq!(map.pixels(&found(Samples::U16(&image), 1, None)), counted);
    }

    /// A mask is written with the values of its classes, and read again by the same map it has the same classes; so
    /// have colours.
    #[test]
    fn written_masks_are_read_as_the_classes_that_they_were(
        entries in entries(),
        others in prop::option::of(0..CLASSES),
        drawn in prop::collection::vec(0usize..64, 1..50),
        in_colour: bool,
    ) {
        let colour = |value: u16| [value as u8, (value >> 8) as u8, 7];
        let shown = |value: u16| match in_colour {
            true => LabelValue::Colour(colour(value)).to_string(),
            false => value.to_string(),
        };
        let (text, indices) = text_of(&entries, others, shown);
        prop_assume!(indices.len() > 2);
        let map = LabelMap::parse(&text).unwrap();
        let classes: Vec<u8> = drawn.iter().map(|number| (number % map.classes.len()) as u8).collect();
        let values = map.written_values();
        let stored = classes.iter().map(|&class| values[usize::from(class)]);
        let again = if in_colour {
            // A class of all other colours alone is written in grey.
            let rgb = |value: LabelValue| match value {
                LabelValue::Colour(colour) => colour,
                LabelValue::Grey(grey) => [grey as u8; 3],
            };
            map.lookup().classes(Samples::U8(&stored.flat_map(rgb).collect::<Vec<_>>()), 3, None)
        } else {
            let number = |value: LabelValue| match value {
                LabelValue::Grey(value) => u16::try_from(value).unwrap(),
                LabelValue::Colour(colour) => panic!("{colour:?}"),
            };
            map.lookup().classes(Samples::U16(&stored.map(number).collect::<Vec<_>>()), 1, None)
        };
        prop_assert_eq!(again, classes);
    }
}
