//! What is done so that a job's containers trust the runner's private CAs.

use super::scripts::private_cas;

/// What a private CA lies beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageBundle {
    /// The image's own bundle with so many certificates.
    Own(usize),
    /// So many of the runner's system: the image has no bundle.
    Runners(usize),
    /// Nothing: a bundle could not be made either.
    None,
}

/// Trust in an image: how many private CAs, beside what, in which directories of its containers, and which files stay
/// as they are for which reason.
pub fn image_trust(
    private: usize,
    beside: &ImageBundle,
    directories: &[&str],
    left_alone: &[(&str, &str)],
) -> String {
    let private = private_cas(private);
    let beside = match beside {
        ImageBundle::Own(own) => format!(" beside the image's {own}"),
        ImageBundle::Runners(system) => {
            format!(" and the runner's {system} of the system (the image has none)")
        }
        ImageBundle::None => String::new(),
    };
    let left_alone: String = left_alone
        .iter()
        .flat_map(|(path, because)| ["; ", path, " left as it is: ", because])
        .collect();
    format!(
        "Trust in containers of this image: {private}{beside}, in volumes over {} \
         (off: images = false in [runners.trust]){left_alone}",
        directories.join(", ")
    )
}
