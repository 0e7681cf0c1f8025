//! Against the values that Fiji's own classes print for a synthetic stack (tests/golden/isbi_metrics), and what must
//! hold of any stack.

use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde_json::Value;

use super::*;
use crate::data::random::{Purpose, stream};
use crate::data::tiff::{Samples, StackReader};

/// The largest allowed difference from Fiji's values, which are printed in full.
const TOLERANCE: f64 = 1e-12;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/isbi_metrics").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn assert_close(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found}, expected {expected}");
}

/// Labels, probabilities and width of the slices of the golden stack.
fn golden_slices() -> Vec<(Vec<bool>, Vec<f32>, usize)> {
    let labels = StackReader::open(&golden("gt.tif")).unwrap();
    let width = labels.size()[2];
    let (mut is_inside, mut probability) = (Vec::new(), Vec::new());
    labels
        .for_each_page(|_, page| match page {
            Samples::U8(values) => is_inside.push(values.iter().map(|&value| value > 0).collect()),
            other => panic!("{other:?}"),
        })
        .unwrap();
    StackReader::open(&golden("prob_f32.tif"))
        .unwrap()
        .for_each_page(|_, page| match page {
            Samples::F32(values) => probability.push(values.to_vec()),
            other => panic!("{other:?}"),
        })
        .unwrap();
    is_inside.into_iter().zip(probability).map(|(labels, probability)| (labels, probability, width)).collect()
}

fn mask(rows: &Value) -> (Vec<bool>, usize) {
    let rows: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    (rows.concat().bytes().map(|pixel| pixel == b'#').collect(), rows[0].len())
}

/// Ids in the order in which they come: what is equal then is equal up to numbering.
fn renumbered(ids: &[u32]) -> Vec<u32> {
    let mut seen = vec![0];
    let place = |id: &u32| match seen.iter().position(|other| other == id) {
        Some(place) => place as u32,
        None => {
            seen.push(*id);
            seen.len() as u32 - 1
        }
    };
    ids.iter().map(place).collect()
}

#[test]
fn the_thresholds_are_those_of_fiji_s_loop() {
    let expected = expected();
    for (threshold, row) in thresholds().into_iter().zip(expected["thresholds"].as_array().unwrap()) {
        assert_close(threshold, &row["threshold"], "threshold");
    }
    // To the bit, which serde_json does not read.
    assert_eq!(
        (thresholds()[3], thresholds()[8], thresholds()[10]),
        (0.1 + 0.2, 0.7999999999999999, 0.9999999999999999)
    );
    assert_eq!(thresholds()[HALF], 0.5);
}

#[test]
fn small_cases_are_thinned_and_scored_as_by_fiji() {
    let expected = expected();
    let cases = expected["tiny_cases"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let ((labels, width), (proposal, _)) = (mask(&case["gt"]), mask(&case["prop"]));
        let thinned = Segments::components(&proposal, width).thin_borders();
        let rows = case["ws"].as_array().unwrap().iter().map(|row| row.as_str().unwrap());
        let fiji: Vec<u32> = rows.flat_map(str::bytes).map(|digit| u32::from(digit - b'0')).collect();
        assert_eq!(renumbered(&thinned.ids), renumbered(&fiji), "{name}");
        let probability: Vec<f32> = proposal.iter().map(|&set| f32::from(u8::from(set))).collect();
        let scores = ChallengeScores::new(&[SliceScores::new(&labels, &probability, width, 1)]);
        assert_close(scores.v_rand_thin, &case["v_rand"], name);
        assert_close(scores.v_info_thin, &case["v_info"], name);
    }
}

#[test]
fn every_threshold_of_the_sweep_equals_fiji_s() {
    let (slices, expected) = (golden_slices(), expected());
    let count = slices.len() as f64;
    let scored: Vec<SliceScores> =
        slices.iter().map(|(labels, p, width)| SliceScores::new(labels, p, *width, 3)).collect();
    for (index, row) in expected["thresholds"].as_array().unwrap().iter().enumerate() {
        let threshold = thresholds()[index];
        let (mut plain, mut thinned, mut wrong) = (Vec::new(), Vec::new(), 0.0);
        for (labels, probability, width) in &slices {
            let proposal: Vec<bool> = probability.iter().map(|&p| f64::from(p) > threshold).collect();
            let truth = Segments::components(labels, *width);
            let segments = Segments::components(&proposal, *width);
            plain.push(Overlap::new(&truth, &segments));
            thinned.push(Overlap::new(&truth, &segments.thin_borders()));
            let differing = labels.iter().zip(&proposal).filter(|(label, proposal)| label != proposal).count();
            wrong += differing as f64 / labels.len() as f64;
        }
        let micro = |overlaps: &[Overlap]| overlaps.iter().map(Overlap::ordered_pairs).sum::<Agreement>().f_score();
        let info = |overlaps: &[Overlap]| overlaps.iter().map(Overlap::information_score).sum::<f64>() / count;
        let mean = |score: fn(&ThresholdScores) -> f64| scored.iter().map(|s| score(&s.at[index])).sum::<f64>() / count;
        let sum =
            |part: fn(&ThresholdScores) -> Agreement| scored.iter().map(|s| part(&s.at[index])).sum::<Agreement>();
        for (name, found) in [
            ("v_rand_thin_macro", mean(|scores| scores.v_rand_thin)),
            ("v_rand_thin_micro", micro(&thinned)),
            ("v_info_thin_macro", mean(|scores| scores.v_info_thin)),
            ("fr_rand_f_no_thinning_micro", micro(&plain)),
            ("fr_info_f_no_thinning_macro", info(&plain)),
            ("pixel_f_micro", sum(|scores| scores.pixels).f_score()),
            ("pixel_mse_mean", wrong / count),
            ("fr_rand_f_2012_pairs_micro", sum(|scores| scores.pairs).f_score()),
        ] {
            assert_close(found, &row[name], &format!("{name} at {threshold}"));
        }
        if index == HALF {
            assert_close(wrong_share(&scored, slices[0].0.len()), &row["pixel_mse_mean"], "wrong share");
        }
    }
}

#[test]
fn the_best_of_the_sweep_is_fiji_s_with_its_threshold() {
    let slices: Vec<SliceScores> =
        golden_slices().iter().map(|(labels, p, width)| SliceScores::new(labels, p, *width, 2)).collect();
    let (scores, expected) = (ChallengeScores::new(&slices), expected());
    let best = &expected["max_over_thresholds"];
    assert_close(scores.v_rand_thin, &best["v_rand_thin"], "v_rand_thin");
    assert_close(scores.v_info_thin, &best["v_info_thin"], "v_info_thin");
    assert_close(1.0 - scores.rand_error_2012, &best["fr_rand_f_2012_pairs"], "rand_error_2012");
    assert_close(1.0 - scores.pixel_error_2012, &best["pixel_f"], "pixel_error_2012");
    let found = [
        (scores.v_rand_thin_threshold, "v_rand_thin_macro"),
        (scores.v_info_thin_threshold, "v_info_thin_macro"),
        (scores.rand_error_2012_threshold, "fr_rand_f_2012_pairs_micro"),
        (scores.pixel_error_2012_threshold, "pixel_f_micro"),
    ];
    for (threshold, name) in found {
        let sweep = expected["thresholds"].as_array().unwrap().iter();
        let best = sweep.max_by(|a, b| a[name].as_f64().unwrap().total_cmp(&b[name].as_f64().unwrap())).unwrap();
        assert_eq!(Some(threshold), best["threshold"].as_f64(), "{name}");
    }
    // Dice and IoU of one mask: IoU = Dice / (2 - Dice).
    assert_close(scores.dice, &expected["thresholds"][HALF]["pixel_f_micro"], "dice");
    assert!((scores.iou - scores.dice / (2.0 - scores.dice)).abs() < TOLERANCE);
}

/// Blocks of 16 pixels with borders, and noise on the probabilities.
fn noisy_slice(rng: &mut impl Rng, width: usize, height: usize) -> (Vec<bool>, Vec<f32>) {
    let is_inside = |i: usize| !(i % width).is_multiple_of(16) && !(i / width).is_multiple_of(12);
    let labels: Vec<bool> = (0..width * height).map(is_inside).collect();
    let probability = labels.iter().map(|&inside| 0.3 * f32::from(u8::from(inside)) + rng.random_range(0.0..0.7));
    let probability = probability.collect();
    (labels, probability)
}

#[test]
fn thinning_leaves_neither_holes_nor_segments_that_touch() {
    let mut rng = stream(1, Purpose::Augmentation, 0);
    for (width, height, share) in [(37, 29, 0.2), (64, 48, 0.5), (1, 40, 0.5), (40, 1, 0.5), (50, 50, 0.9)] {
        let mask: Vec<bool> = (0..width * height).map(|_| rng.random_bool(share)).collect();
        let before = Segments::components(&mask, width);
        let after = before.clone().thin_borders();
        assert_eq!(after.count, before.count);
        for (pixel, &id) in after.ids.iter().enumerate() {
            assert!(id <= before.count, "every border pixel is decided");
            assert!(before.ids[pixel] == 0 || before.ids[pixel] == id, "segments only grow");
            let right = (pixel % width + 1 < width).then_some(pixel + 1);
            let down = (pixel + width < mask.len()).then_some(pixel + width);
            for neighbour in [right, down].into_iter().flatten() {
                let other = after.ids[neighbour];
                assert!(id == other || id == 0 || other == 0, "{id} touches {other}");
            }
        }
    }
}

#[test]
fn numbering_of_segments_changes_nothing() {
    let (labels, probability) = noisy_slice(&mut stream(2, Purpose::Augmentation, 0), 64, 48);
    let mask: Vec<bool> = probability.iter().map(|&p| p > 0.5).collect();
    let (truth, segments) = (Segments::components(&labels, 64), Segments::components(&mask, 64).thin_borders());
    let mut permuted = segments.clone();
    let mut order: Vec<u32> = (1..=segments.count).collect();
    order.shuffle(&mut stream(3, Purpose::Augmentation, 0));
    permuted.ids.iter_mut().filter(|id| **id > 0).for_each(|id| *id = order[*id as usize - 1]);
    let (one, other) = (Overlap::new(&truth, &segments), Overlap::new(&truth, &permuted));
    assert!(segments.count > 5 && permuted != segments);
    assert_eq!(one.ordered_pairs(), other.ordered_pairs());
    assert_eq!(one.unordered_pairs(), other.unordered_pairs());
    assert!((one.information_score() - other.information_score()).abs() < TOLERANCE);
}

/// Merging adds pairs: to what is found, and where objects are joined to what is found wrongly.
#[test]
fn merged_objects_lower_precision_and_no_merging_lowers_recall() {
    let (labels, probability) = noisy_slice(&mut stream(4, Purpose::Augmentation, 0), 64, 48);
    let mask: Vec<bool> = probability.iter().map(|&p| p > 0.5).collect();
    let truth = Segments::components(&labels, 64);
    let precision = |pairs: &Agreement| pairs.both as f64 / pairs.proposal as f64;
    for (mut segments, are_objects) in [(truth.clone(), true), (Segments::components(&mask, 64).thin_borders(), false)]
    {
        let mut before = Overlap::new(&truth, &segments).ordered_pairs();
        for id in (2..=segments.count).rev() {
            segments.ids.iter_mut().filter(|other| **other == id).for_each(|other| *other = 1);
            let after = Overlap::new(&truth, &segments).ordered_pairs();
            assert!(!are_objects || precision(&after) < precision(&before), "{after:?} after {before:?}");
            assert!(after.both >= before.both && after.truth == before.truth, "{after:?} after {before:?}");
            before = after;
        }
    }
}

#[test]
fn labels_score_in_full_against_themselves() {
    let (labels, _) = noisy_slice(&mut stream(5, Purpose::Augmentation, 0), 64, 48);
    let same: Vec<f32> = labels.iter().map(|&inside| f32::from(u8::from(inside))).collect();
    let ChallengeScores { v_rand_thin, v_info_thin, rand_error_2012, pixel_error_2012, dice, iou, .. } =
        ChallengeScores::new(&[SliceScores::new(&labels, &same, 64, 2)]);
    assert_eq!([v_rand_thin, rand_error_2012, pixel_error_2012, dice, iou], [1.0, 0.0, 0.0, 1.0, 1.0]);
    assert!((v_info_thin - 1.0).abs() < TOLERANCE, "{v_info_thin}");
}

/// Whatever the number of threads, and after the exchange between processes.
#[test]
fn scores_do_not_depend_on_threads_and_travel_whole() {
    let (labels, probability) = noisy_slice(&mut stream(6, Purpose::Augmentation, 0), 64, 48);
    let alone = SliceScores::new(&labels, &probability, 64, 1);
    for threads in [0, 2, 5, 64] {
        assert_eq!(SliceScores::new(&labels, &probability, 64, threads), alone);
    }
    let numbers = alone.numbers();
    assert_eq!(numbers.len(), SliceScores::NUMBERS);
    assert_eq!(SliceScores::from_numbers(&numbers), alone);
    // Masks that repeat are scored once: the last three here are those of a binary stack.
    let binary: Vec<f32> = probability.iter().map(|&p| if p > 0.65 { 1.0 } else { p }).collect();
    let scores = SliceScores::new(&labels, &binary, 64, 2);
    assert!(scores.at[7..].iter().all(|at| *at == scores.at[7]));
    assert_ne!(scores.at[5], scores.at[7]);
}

#[test]
fn slices_that_cannot_score_in_full_are_named_and_count_as_fiji_counts_them() {
    let (labels, probability) = noisy_slice(&mut stream(7, Purpose::Augmentation, 0), 64, 48);
    let score = |labels: &[bool]| SliceScores::new(labels, &probability, 64, 1);
    let full = score(&labels);
    let slices = [full, score(&vec![false; labels.len()]), score(&vec![true; labels.len()]), full];
    let warnings = warnings(&[4, 7, 9, 2], &slices);
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("1 of 4 slices (7;") && warnings[0].contains("without foreground"), "{warnings:?}");
    assert!(warnings[1].contains("1 of 4 slices (9;") && warnings[1].contains("single object"), "{warnings:?}");
    assert!(super::warnings(&[0], &[full]).is_empty());
    let [empty, single] = [ChallengeScores::new(&slices[1..2]), ChallengeScores::new(&slices[2..3])];
    assert_eq!([empty.v_rand_thin, empty.v_info_thin, empty.dice, empty.iou], [0.0; 4]);
    assert_eq!([empty.rand_error_2012, empty.pixel_error_2012], [1.0; 2]);
    assert_eq!((single.v_info_thin, single.v_info_thin_threshold), (0.0, 0.0));
    assert!(single.v_rand_thin > 0.0);
    // Means over all slices, those of score 0 included.
    let mean = ChallengeScores::new(&slices[..2]).v_info_thin;
    assert!((mean - ChallengeScores::new(&slices[..1]).v_info_thin / 2.0).abs() < TOLERANCE);
}

/// Two cells with a border of the given probability between them.
#[test]
fn a_best_threshold_at_the_end_of_the_scale_is_told() {
    let scores = |border: f32| {
        let labels: Vec<bool> = (0..81).map(|pixel| pixel % 9 != 4).collect();
        let probability: Vec<f32> = labels.iter().map(|&is_inside| if is_inside { 1.0 } else { border }).collect();
        ChallengeScores::new(&[SliceScores::new(&labels, &probability, 9, 1)])
    };
    let names = ["membrane", "inside"].map(str::to_owned);
    for border in [0.1, 0.45, 0.75] {
        assert_eq!(scores(border).advice(&names), None, "{border}");
    }
    for border in [0.85, 0.95] {
        let told = scores(border);
        assert_eq!(told.v_rand_thin, 1.0);
        assert!(told.advice(&names).is_some_and(|text| text.contains("10,1 (membrane, inside)")), "{border}");
    }
}
