//! As whom the build container runs (`executor-docker.md` 6).

use courser_config::DockerConfig;

use crate::plan::PlanError;

/// The configured user, else the one that the job wants; empty: the image's own, which is always allowed.
pub(crate) fn build_user(config: &DockerConfig, wanted: &str) -> Result<String, PlanError> {
    let user = match config.user.as_str() {
        "" => wanted,
        user => user,
    };
    let allowed = &config.allowed_users;
    if user.is_empty() || allowed.is_empty() || allowed.iter().any(|allowed| allowed == user) {
        Ok(user.to_owned())
    } else {
        Err(PlanError::User {
            user: user.to_owned(),
            allowed: allowed.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::runner;

    #[test]
    fn the_configured_user_wins_and_the_effective_one_has_to_be_allowed() {
        let not_allowed = |user: &str| {
            Err(format!(
                "failed to create container configuration: user {user:?} is not an allowed user: [a b]"
            ))
        };
        for (docker, wanted, expected) in [
            ("", "", Ok(String::new())),
            ("", "1000:1000", Ok("1000:1000".to_owned())),
            // The job's wish is ignored without a word.
            ("user = \"root\"", "x", Ok("root".to_owned())),
            ("allowed_users = [\"a\", \"b\"]", "", Ok(String::new())),
            ("allowed_users = [\"a\", \"b\"]", "b", Ok("b".to_owned())),
            ("allowed_users = [\"a\", \"b\"]", "c", not_allowed("c")),
            (
                "allowed_users = [\"a\", \"b\"]\nuser = \"c\"",
                "a",
                not_allowed("c"),
            ),
        ] {
            let config = runner(docker).docker.expect("there");
            let user = build_user(&config, wanted).map_err(|error| error.to_string());
            assert_eq!(user, expected, "{docker} {wanted}");
        }
    }
}
