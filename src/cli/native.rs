//! The settings of the native recipe, checked: training and `unet preview` have the flags and the checks in common.

use clap::{ArgAction, Args};
use serde::Serialize;

use super::values::{AugmentationChoice, GreyScalingChoice, RecipeChoice, whole};
use crate::error::UsageError;

// The flags of native training samples. Not a doc comment: clap would make it the description of each command.
#[derive(Debug, Args)]
pub struct NativeArgs {
    /// Side of the output of a training window in pixels, 4 and multiples of 16 more; the input has 184 more [default:
    /// 388]
    #[arg(long, value_name = "PIXELS", value_parser = whole(4..=16_388), help_heading = "Recipe")]
    pub patch: Option<u64>,
    /// What grey levels are scaled by: the range of the sample type, or each image's own mean and deviation [default:
    /// range]
    #[arg(long = "grey_scaling", value_name = "BY", value_enum, help_heading = "Recipe")]
    pub grey_scaling: Option<GreyScalingChoice>,
    /// What --augment does in the native recipe, between commas [default: flips,rotation,scale,elastic,grey]
    #[arg(
        long, value_name = "LIST", value_enum, value_delimiter = ',', action = ArgAction::Set, num_args = 1,
        help_heading = "Recipe"
    )]
    pub augmentations: Option<Vec<AugmentationChoice>>,
}

/// The settings of the native recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Native {
    /// Side of the output of a training window.
    pub patch: i64,
    #[serde(skip)]
    pub grey_scaling: GreyScalingChoice,
    /// Used with `augment`.
    pub augmentations: Vec<AugmentationChoice>,
    /// Largest side of the output of a tile; `None`: as memory allows.
    #[serde(skip)]
    pub tile: Option<i64>,
}

/// Side of the output of a training window by default: the network's (paper, figure 1).
pub(super) const PATCH: i64 = 388;
/// All kinds.
const AUGMENTATIONS: [AugmentationChoice; 5] = [
    AugmentationChoice::Flips,
    AugmentationChoice::Rotation,
    AugmentationChoice::Scale,
    AugmentationChoice::Elastic,
    AugmentationChoice::Grey,
];

impl Native {
    /// The settings of what trains nothing.
    ///
    /// Errors: a patch that the network's arithmetic does not give.
    pub fn new(args: &NativeArgs, tile: Option<u64>) -> Result<Self, UsageError> {
        let patch = args.patch.map_or(PATCH, |patch| patch as i64);
        if (patch - 4) % 16 != 0 {
            let below = 4 + (patch - 4) / 16 * 16;
            return Err(UsageError::new(format!(
                "--patch {patch}: outputs of the network are 4 pixels and multiples of 16 more; next are {below} and \
                 {}",
                below + 16
            )));
        }
        Ok(Self {
            patch,
            grey_scaling: args.grey_scaling.unwrap_or(GreyScalingChoice::Range),
            augmentations: args.augmentations.clone().unwrap_or_else(|| AUGMENTATIONS.to_vec()),
            tile: tile.map(|tile| tile as i64),
        })
    }

    /// The settings of training by `recipe`, with or without `augment`.
    ///
    /// Errors: those of [`Self::new`], and flags that such a training does not use.
    pub fn of_training(
        args: &NativeArgs,
        tile: Option<u64>,
        recipe: Option<RecipeChoice>,
        augment: bool,
    ) -> Result<Self, UsageError> {
        let given = [
            ("patch", args.patch.is_some()),
            ("grey_scaling", args.grey_scaling.is_some()),
            ("augmentations", args.augmentations.is_some()),
            ("tile", tile.is_some()),
        ];
        let of_native = given.into_iter().find(|(_, is_given)| *is_given);
        if let (Some((flag, _)), false) = (of_native, recipe == Some(RecipeChoice::Native)) {
            let message = format!("--{flag} belongs to the native recipe; add --recipe native, or leave --{flag} out");
            return Err(UsageError::new(message));
        }
        let native = Self::new(args, tile)?;
        if args.augmentations.is_some() && !augment {
            let message = "--augmentations says what --augment does; add --augment, or leave --augmentations out";
            return Err(UsageError::new(message));
        }
        Ok(native)
    }
}
