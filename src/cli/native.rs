//! The settings of the native recipe, checked: training and `unet preview` have the flags and the checks in common.

use clap::{ArgAction, Args};
use serde::Serialize;

use super::values::{
    AugmentationChoice, GreyScalingChoice, InitChoice, RecipeChoice, ScheduleChoice, positive, share, whole,
};
use crate::error::UsageError;

// The flags of native training samples. Not a doc comment: clap would make it the description of each command.
#[derive(Debug, Args)]
pub struct NativeArgs {
    /// Side of the output of a training window in pixels, 4 and multiples of 16 more; the input has 184 more [default:
    /// 388]
    #[arg(long, value_name = "PIXELS", value_parser = whole(4..=16_388), help_heading = "Recipe")]
    pub patch: Option<u64>,
    /// What grey levels are scaled by: each image's own mean and deviation, or the range of the sample type [default:
    /// image]
    #[arg(long = "grey_scaling", value_name = "BY", value_enum, help_heading = "Recipe")]
    pub grey_scaling: Option<GreyScalingChoice>,
    /// What --augment does in the native recipe, between commas [default: flips,rotation,scale,elastic,grey]
    #[arg(
        long, value_name = "LIST", value_enum, value_delimiter = ',', action = ArgAction::Set, num_args = 1,
        help_heading = "Recipe"
    )]
    pub augmentations: Option<Vec<AugmentationChoice>>,
    /// Share of the training windows that are placed around a pixel of another class than the most frequent one
    #[arg(
        long = "rare_class_share", value_name = "SHARE", default_value_t = 0.0, value_parser = share,
        help_heading = "Recipe"
    )]
    pub rare_class_share: f64,
}

// The flags of border weights, which a preview does not show.
#[derive(Debug, Args)]
pub struct BorderArgs {
    /// Weight of the pixels between objects in the cross entropy, beside that of their class; the paper's is 10
    #[arg(long = "border_weight", value_name = "WEIGHT", value_parser = positive, help_heading = "Recipe")]
    pub border_weight: Option<f64>,
    /// Deviation of --border_weight in pixels: where objects are so far apart 61 % of it are left, at twice as far 14 %
    /// [default: 5]
    #[arg(long = "border_sigma", value_name = "PIXELS", value_parser = positive, help_heading = "Recipe")]
    pub border_sigma: Option<f64>,
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
    /// Share of the training windows that are placed around rarer classes.
    #[serde(skip)]
    pub rare_class_share: f64,
    /// Largest side of the output of a tile; `None`: as memory allows.
    #[serde(skip)]
    pub tile: Option<i64>,
}

/// What pixels between objects weigh in the cross entropy, beside the weight of their class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Border {
    /// Where objects touch.
    pub weight: f64,
    /// Deviation over the distance between two objects, in pixels.
    pub sigma: f64,
}

/// How the weights begin and how fast they change where no flag says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub learning_rate: f64,
    pub schedule: ScheduleChoice,
    pub lr_warmup_steps: u64,
    pub init: InitChoice,
}

impl Defaults {
    /// The reference's own, or those that docs/accuracy.md found to be better, in `max_steps` of training.
    pub fn of(recipe: Option<RecipeChoice>, max_steps: u64) -> Self {
        match recipe {
            Some(RecipeChoice::Native) => Self {
                learning_rate: 1e-3,
                schedule: ScheduleChoice::Cosine,
                lr_warmup_steps: (max_steps / 10).min(50),
                init: InitChoice::He,
            },
            Some(RecipeChoice::Reference) | None => Self {
                learning_rate: 1e-4,
                schedule: ScheduleChoice::Constant,
                lr_warmup_steps: 0,
                init: InitChoice::Glorot,
            },
        }
    }
}

/// Side of the output of a training window by default: the network's (paper, figure 1).
pub(super) const PATCH: i64 = 388;
/// The paper's.
const BORDER_SIGMA: f64 = 5.0;
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
            grey_scaling: args.grey_scaling.unwrap_or(GreyScalingChoice::Image),
            augmentations: args.augmentations.clone().unwrap_or_else(|| AUGMENTATIONS.to_vec()),
            rare_class_share: args.rare_class_share,
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
            ("rare_class_share", args.rare_class_share > 0.0),
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

impl Border {
    /// The border weights of training by `recipe`; `None`: none.
    ///
    /// Errors: flags that such a training does not use.
    pub fn of_training(args: &BorderArgs, recipe: Option<RecipeChoice>) -> Result<Option<Self>, UsageError> {
        let refuse = |message: String| Err(UsageError::new(message));
        let given = [("border_weight", args.border_weight), ("border_sigma", args.border_sigma)];
        let given = given.iter().find(|(_, value)| value.is_some());
        if let (Some((flag, _)), false) = (given, recipe == Some(RecipeChoice::Native)) {
            return refuse(format!(
                "--{flag} belongs to the native recipe; add --recipe native, or leave --{flag} out"
            ));
        }
        match (args.border_weight, args.border_sigma) {
            (Some(weight), sigma) => Ok(Some(Self { weight, sigma: sigma.unwrap_or(BORDER_SIGMA) })),
            (None, None) => Ok(None),
            (None, Some(_)) => refuse(
                "--border_sigma is the width of --border_weight; add --border_weight, or leave --border_sigma out"
                    .to_owned(),
            ),
        }
    }
}
