//! What earlier agents left pinned, as the next start will find it.

use super::{Finding, as_agent::as_agent};
use crate::{
    config::Config,
    kernel::{
        KernelError,
        pinned::{self, Survey},
    },
};

const CHECK: &str = "pinned maps";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let dir = config.paths.pin_dir();
    findings(as_agent(|| pinned::survey(&config.kernel, &dir)))
}

fn findings(found: Result<Survey, KernelError>) -> Vec<Finding> {
    let survey = match found {
        Ok(survey) => survey,
        // Without a bpf file system there are none, and that is said where it is looked for.
        Err(KernelError::NotBpffs { .. }) => return Vec::new(),
        // What this process may not do says nothing about the agent.
        Err(e @ (KernelError::Permission { .. } | KernelError::PinOwner { me: 1.., .. })) => {
            return vec![Finding::warn(CHECK, e.to_string(), "run doctor as root")];
        }
        Err(e) => {
            let advice = "do what it says: the next start is refused until then; cuts in force stay and end at their deadline";
            return vec![Finding::fail(CHECK, e.to_string(), advice)];
        }
    };
    let links = survey.wrong_links.into_iter().map(|problem| {
        let advice = "what is pinned there is not ours: nothing is attached on that side until it is gone";
        Finding::fail("pinned links", problem, advice)
    });
    let maps = match survey.maps {
        0 => Finding::ok(CHECK, "none; the agent makes them"),
        n => Finding::ok(
            CHECK,
            format!("{n}, as this version has them; the next start adopts them"),
        ),
    };
    std::iter::once(maps).chain(links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn what_a_start_would_refuse_fails_and_what_only_doctor_may_not_see_warns() {
        let refused = KernelError::NoPinDirectory {
            dir: "/b/v2".into(),
            at: "/b/v2".into(),
            found: "a map".into(),
        };
        let found = findings(Err(refused));
        assert_eq!((found.len(), found[0].level), (1, Level::Fail));
        let what = "opening the pin /b/v2/ROOMS".into();
        assert_eq!(
            findings(Err(KernelError::Permission { what }))[0].level,
            Level::Warn
        );
    }

    #[test]
    fn a_link_that_is_not_ours_fails_beside_maps_that_are_fine() {
        let survey = Survey {
            maps: 9,
            wrong_links: vec!["the pin x is a link of XDP".into()],
        };
        let levels: Vec<Level> = findings(Ok(survey)).iter().map(|f| f.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Fail]);
    }
}
