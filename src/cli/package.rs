//! The flags of `unet export --to bioimageio`, which say what the package tells of the network and its authors.

use clap::Args;

use crate::error::UsageError;

/// What the package says that no file of the run knows.
#[derive(Debug, Args)]
pub struct PackageArgs {
    /// With --to bioimageio: name of the model, 5 to 128 letters, digits, spaces and _+-() [default: U-Net for its
    /// classes]
    #[arg(long, value_name = "TEXT", value_parser = name, help_heading = "Package for the BioImage Model Zoo")]
    pub name: Option<String>,
    /// With --to bioimageio: what the model is for, in a sentence [default: its classes and its recipe]
    #[arg(long, value_name = "TEXT", help_heading = "Package for the BioImage Model Zoo")]
    pub description: Option<String>,
    /// With --to bioimageio, required: an author, 'NAME; AFFILIATION; ORCID; @GITHUB_USER', of which the name is
    /// needed. Once for each
    #[arg(
        long = "author", value_name = "AUTHOR", value_parser = author,
        help_heading = "Package for the BioImage Model Zoo"
    )]
    pub authors: Vec<Author>,
    /// With --to bioimageio: what users are to cite, 'TEXT; DOI' or 'TEXT; URL', beside the paper of the U-Net. Once
    /// for each
    #[arg(
        long = "cite", value_name = "WORK", value_parser = citation,
        help_heading = "Package for the BioImage Model Zoo"
    )]
    pub citations: Vec<Citation>,
    /// With --to bioimageio, required: licence of the weights, by its SPDX identifier, such as CC-BY-4.0
    #[arg(long, value_name = "SPDX", value_parser = license, help_heading = "Package for the BioImage Model Zoo")]
    pub license: Option<String>,
    /// With --to bioimageio: output of the size of the input, for programs that need it: the network itself frames its
    /// input, as its recipe does
    #[arg(long = "same_size", help_heading = "Package for the BioImage Model Zoo")]
    pub same_size: bool,
}

/// A person, as the specification of packages has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub affiliation: Option<String>,
    pub orcid: Option<String>,
    pub github_user: Option<String>,
}

/// A work to cite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    pub text: String,
    pub place: Place,
}

/// Where a work is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Doi(String),
    Url(String),
}

impl PackageArgs {
    /// Errors: a flag of packages with another format.
    pub fn refuse(&self) -> Result<(), UsageError> {
        let flags = [
            ("--name", self.name.is_some()),
            ("--description", self.description.is_some()),
            ("--author", !self.authors.is_empty()),
            ("--cite", !self.citations.is_empty()),
            ("--license", self.license.is_some()),
            ("--same_size", self.same_size),
        ];
        match flags.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((flag, _)) => {
                Err(UsageError::new(format!("{flag} is for --to bioimageio alone; leave it out, or change --to")))
            }
        }
    }

    /// The licence of a package.
    ///
    /// Errors: no licence, or no author.
    pub fn require(&self) -> Result<&str, UsageError> {
        if self.authors.is_empty() {
            return Err(UsageError::new(
                "--to bioimageio needs --author: a package names those who made the model; give --author 'NAME'"
                    .to_owned(),
            ));
        }
        self.license.as_deref().ok_or_else(|| {
            UsageError::new(
                "--to bioimageio needs --license: the SPDX identifier of the licence of the weights, such as CC-BY-4.0"
                    .to_owned(),
            )
        })
    }
}

/// Whether names of models may have this character.
pub fn fits_in_name(symbol: char) -> bool {
    symbol.is_ascii_alphanumeric() || "_+- ()".contains(symbol)
}

/// A name within the limits of the specification.
fn name(text: &str) -> Result<String, String> {
    if let Some(bad) = text.chars().find(|symbol| !fits_in_name(*symbol)) {
        return Err(format!("'{bad}' is not allowed: letters, digits, spaces and _+-() are"));
    }
    match text.chars().count() {
        5..=128 => Ok(text.to_owned()),
        length => Err(format!("{length} characters, expected 5 to 128")),
    }
}

fn author(text: &str) -> Result<Author, String> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_owned();
    if name.is_empty() || name.contains(['/', '\\']) {
        return Err("expected a name without slashes, then perhaps '; AFFILIATION; ORCID; @GITHUB_USER'".to_owned());
    }
    let mut author = Author { name, affiliation: None, orcid: None, github_user: None };
    for part in parts {
        let (place, value) = if let Some(user) = part.strip_prefix('@') {
            (&mut author.github_user, user)
        } else if is_orcid(part) {
            (&mut author.orcid, part)
        } else {
            (&mut author.affiliation, part)
        };
        if value.is_empty() || place.replace(value.to_owned()).is_some() {
            return Err(format!(
                "'{part}' is empty or a second one of its kind; expected NAME; AFFILIATION; ORCID; @GITHUB_USER"
            ));
        }
    }
    Ok(author)
}

/// Whether `text` has the form of an ORCID iD: 0000-0002-1825-0097.
fn is_orcid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let is_number = |group: &&str| group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_digit() || byte == b'X');
    groups.len() == 4 && groups.iter().all(is_number)
}

fn citation(text: &str) -> Result<Citation, String> {
    let expected = || "expected 'TEXT; DOI' or 'TEXT; URL', such as 'Our paper, 2026; 10.1000/182'".to_owned();
    let (words, place) = text.rsplit_once(';').ok_or_else(expected)?;
    let (words, place) = (words.trim(), place.trim());
    let place = match place.strip_prefix("https://doi.org/").unwrap_or(place) {
        doi if doi.starts_with("10.") && doi.contains('/') => Place::Doi(doi.to_owned()),
        url if url.starts_with("https://") || url.starts_with("http://") => Place::Url(url.to_owned()),
        _ => return Err(expected()),
    };
    if words.is_empty() { Err(expected()) } else { Ok(Citation { text: words.to_owned(), place }) }
}

/// The form alone: the list of licences grows, and the tools of the zoo know it.
fn license(text: &str) -> Result<String, String> {
    let fits = |symbol: char| symbol.is_ascii_alphanumeric() || ".+-".contains(symbol);
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("expected an SPDX identifier, such as CC-BY-4.0 or MIT (https://spdx.org/licenses)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_have_a_name_and_perhaps_more_in_any_order() {
        let plain = Author { name: "Ada".to_owned(), affiliation: None, orcid: None, github_user: None };
        assert_eq!(author("Ada"), Ok(plain.clone()));
        let all = Author {
            affiliation: Some("Institute of Cells".to_owned()),
            orcid: Some("0000-0002-1825-0097".to_owned()),
            github_user: Some("ada".to_owned()),
            ..plain
        };
        assert_eq!(author(" Ada; Institute of Cells; 0000-0002-1825-0097; @ada"), Ok(all.clone()));
        assert_eq!(author("Ada; @ada; 0000-0002-1825-0097; Institute of Cells"), Ok(all));
        for bad in ["", "; Institute", "Ada/Bob", "Ada; One; Two", "Ada; @", "Ada;"] {
            assert!(author(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn citations_have_a_doi_or_an_address() {
        let found = |text: &str| citation(text).map(|citation| (citation.text, citation.place));
        let doi = || Place::Doi("10.1000/182".to_owned());
        assert_eq!(found("Paper; with more, 2026; 10.1000/182"), Ok(("Paper; with more, 2026".to_owned(), doi())));
        assert_eq!(found("Paper; https://doi.org/10.1000/182"), Ok(("Paper".to_owned(), doi())));
        let url = Place::Url("https://example.org/a".to_owned());
        assert_eq!(found("Page;https://example.org/a"), Ok(("Page".to_owned(), url)));
        for bad in ["Paper", "; 10.1000/182", "Paper; 2026", "Paper; 10.1000"] {
            assert!(citation(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_licences_keep_to_the_specification() {
        assert!(name("U-Net (EM) of 2 classes_+").is_ok() && license("GPL-3.0+").is_ok());
        assert!(["UNet", "U-Net: EM", "Zellwände", ""].into_iter().all(|text| name(text).is_err()));
        assert!(name(&"a".repeat(129)).is_err() && name(&"a".repeat(128)).is_ok());
        assert!(license("").is_err() && license("CC BY 4.0").is_err());
    }
}
