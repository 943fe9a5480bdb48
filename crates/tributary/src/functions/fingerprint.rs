//! Whether something is as it was: one number of all that it is made of.

use std::hash::{DefaultHasher, Hash, Hasher};

use tributary_functions::app::App;
use tributary_functions::script::Program;
use tributary_orchestrator::config::{self, End, Place};

/// Changes with the services of an application, their secrets included.
pub(super) fn of_services(app: &App) -> u64 {
    let mut hasher = DefaultHasher::new();
    for service in app.services.values() {
        format!("{} {:?} {:?}", service.name, service.kind, service.settings).hash(&mut hasher);
        for (name, secret) in &service.secrets {
            (name, secret.as_str()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Changes with everything that functions see.
pub(super) fn seen(program: &Program, reach: &config::Reach) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, source) in program.functions.iter().chain(&program.modules) {
        (name, &source.text).hash(&mut hasher);
    }
    for (name, value) in program.values.iter().chain(&program.environment_values) {
        (name, value).hash(&mut hasher);
    }
    (&program.services, &program.environment).hash(&mut hasher);
    for (name, secret) in &reach.secrets {
        (name, secret.as_str()).hash(&mut hasher);
    }
    format!(
        "{:?} {:?} {:?}",
        reach.allow_hosts, reach.aws_endpoint, reach.aws_region
    )
    .hash(&mut hasher);
    hasher.finish()
}

pub(super) fn place_text<'a>(ends: impl Iterator<Item = &'a End>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for end in ends {
        end.name.hash(&mut hasher);
        if let Place::Source(source) = &end.place {
            source.uri.as_str().hash(&mut hasher);
            format!("{:?}", source.read_preference).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// One number of many things.
pub(super) fn fingerprint(parts: &[&dyn Fingerprinted]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in parts {
        part.feed(&mut hasher);
    }
    hasher.finish()
}

pub(super) trait Fingerprinted {
    fn feed(&self, hasher: &mut DefaultHasher);
}

impl<T: Hash> Fingerprinted for T {
    fn feed(&self, hasher: &mut DefaultHasher) {
        self.hash(hasher);
    }
}
