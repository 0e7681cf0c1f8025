//! How training samples are made, as the flags say it: for training and for `unet preview`.

use crate::cli::native::Native;
use crate::cli::{AugmentationChoice, GreyRangeChoice, GreyScalingChoice, RecipeChoice};
use crate::data::spec::{GreyScaling, Recipe};
use crate::data::values::{GreyChoice, GreyRange};
use crate::recipe::batches::{Samples, WindowOptions};
use crate::recipe::windows::Geometry;

/// The recipe that `--recipe` names; `native` has its settings.
pub fn recipe(choice: RecipeChoice, native: &Native) -> Recipe {
    let grey = match native.grey_scaling {
        GreyScalingChoice::Range => GreyScaling::Range,
        GreyScalingChoice::Image => GreyScaling::Image,
    };
    match choice {
        RecipeChoice::Reference => Recipe::Reference,
        RecipeChoice::Native => Recipe::Native { grey },
    }
}

/// Which stored values become black and white, as `--grey_range` says.
pub fn grey_choice(choice: GreyRangeChoice) -> GreyChoice {
    match choice {
        GreyRangeChoice::Auto => GreyChoice::Auto,
        GreyRangeChoice::Type => GreyChoice::Type,
        GreyRangeChoice::Given(black, white) => GreyChoice::Given(GreyRange { black, white }),
    }
}

/// How training by `recipe` makes samples of slices, with or without `--augment`.
pub fn samples(recipe: Recipe, native: &Native, augment: bool) -> Samples {
    let Recipe::Native { grey } = recipe else { return Samples::Reference { augment } };
    let is_drawn = |kind| augment && native.augmentations.contains(&kind);
    let geometry = Geometry {
        flips: is_drawn(AugmentationChoice::Flips),
        rotation: is_drawn(AugmentationChoice::Rotation),
        scale: is_drawn(AugmentationChoice::Scale),
        elastic: is_drawn(AugmentationChoice::Elastic),
    };
    Samples::Native(WindowOptions {
        side: native.patch,
        grey,
        geometry,
        grey_changes: is_drawn(AugmentationChoice::Grey),
        rare_class_share: native.rare_class_share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(augmentations: &[AugmentationChoice]) -> Native {
        let grey_scaling = GreyScalingChoice::Image;
        Native { patch: 68, grey_scaling, augmentations: augmentations.to_vec(), rare_class_share: 0.25, tile: None }
    }

    #[test]
    fn each_augmentation_is_drawn_where_its_flag_says_so() {
        use AugmentationChoice::{Elastic, Flips, Grey, Rotation, Scale};
        let drawn = |augmentations: &[AugmentationChoice], augment| {
            let native = native(augmentations);
            match samples(recipe(RecipeChoice::Native, &native), &native, augment) {
                Samples::Native(WindowOptions {
                    side: 68,
                    grey: GreyScaling::Image,
                    geometry,
                    grey_changes,
                    rare_class_share: 0.25,
                }) => [geometry.flips, geometry.rotation, geometry.scale, geometry.elastic, grey_changes],
                other => panic!("{other:?}"),
            }
        };
        let kinds = [Flips, Rotation, Scale, Elastic, Grey];
        for (index, kind) in kinds.into_iter().enumerate() {
            let mut expected = [false; 5];
            expected[index] = true;
            assert_eq!(drawn(&[kind], true), expected, "{kind:?}");
        }
        assert_eq!(drawn(&kinds, true), [true; 5]);
        assert_eq!(drawn(&kinds, false), [false; 5]);
        let native = native(&kinds);
        let reference = samples(recipe(RecipeChoice::Reference, &native), &native, true);
        assert_eq!(reference, Samples::Reference { augment: true });
    }
}
