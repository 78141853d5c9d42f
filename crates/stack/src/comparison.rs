//! What a deployment would change: the values of parameters, and who may do what.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::said;
use crate::rights::{self, Right};
use crate::template::{Parameters, Template};
use crate::{Described, Error, Stack, TEMPLATE};

/// What a template and parameters would change, as far as that can be told without asking for a change set.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Who may do more, or less.
    pub rights: Vec<rights::Change>,
    /// Parameters that change, with what they are now and what they become.
    pub parameters: Vec<ParameterChange>,
}

/// A parameter that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterChange {
    /// Its name.
    pub name: String,
    /// What it is now; `None` when there is no stack or no such parameter yet.
    pub before: Option<String>,
    /// What it becomes; `None` when the template has no such parameter any more.
    pub after: Option<String>,
}

/// The values that parameters will have: those that are given, else what they are or were, else the template's own.
///
/// # Errors
/// [`Error::Usage`] when a name is none of the template's.
pub fn effective(before: &Parameters, given: &Parameters) -> Result<Parameters, Error> {
    let template = own();
    let defaults = template.defaults();
    if let Some(unknown) = given.keys().find(|name| !defaults.contains_key(name.as_str())) {
        let known: Vec<_> = defaults.keys().copied().collect();
        return Err(Error::Usage(format!("there is no parameter {unknown}; there are {}", known.join(", "))));
    }
    let value = |(name, default): (&str, Option<String>)| {
        let now = || before.get(name).cloned();
        Some((name.to_owned(), given.get(name).cloned().or_else(now).or(default)?))
    };
    Ok(defaults.into_iter().filter_map(value).collect())
}

/// Whether people who had a tenant each would find themselves in one.
#[must_use]
pub fn joins_tenants(before: &Parameters, after: &Parameters) -> bool {
    let tenancy = |parameters: &Parameters| parameters.get("Tenancy").cloned();
    tenancy(before).as_deref() == Some("per-user") && tenancy(after).as_deref() == Some("shared")
}

/// The template of this program. It is read in tests, too, so it can be.
pub(crate) fn own() -> Template {
    Template::parse(TEMPLATE).unwrap_or_else(|error| unreachable!("the template: {error}"))
}

impl Stack {
    /// Compares what is there with what is in this program, under these parameters.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn compare(&self, before: Option<&Described>, after: &Parameters) -> Result<Comparison, Error> {
        let mut rights_before: BTreeSet<Right> = BTreeSet::new();
        let mut parameters_before = Parameters::new();
        if let Some(before) = before.filter(|before| !before.is_plan()) {
            let asked = self.cloudformation.get_template().stack_name(&before.id).send().await;
            let found = asked.map_err(|error| said("cloudformation:GetTemplate", error))?;
            let body = found.template_body.ok_or(Error::Answer("the template"))?;
            let template =
                Template::parse(&body).map_err(|_| Error::Answer("a template that can be read"))?;
            rights_before = rights::of(&template.resolved(&before.parameters));
            parameters_before.clone_from(&before.parameters);
        }
        let template = own();
        let rights_after = rights::of(&template.resolved(after));
        let defaults = template.defaults();
        let names: BTreeSet<_> = parameters_before.keys().chain(after.keys()).collect();
        let change = |name: &String| {
            let (before, after) = (parameters_before.get(name), after.get(name));
            // Of a new parameter, or a new stack, only what somebody has decided.
            let decided = before.is_some() || after != defaults.get(name.as_str()).and_then(Option::as_ref);
            (before != after && decided).then(|| ParameterChange {
                name: name.clone(),
                before: before.cloned(),
                after: after.cloned(),
            })
        };
        Ok(Comparison {
            rights: rights::changes(&rights_before, &rights_after),
            parameters: names.into_iter().filter_map(change).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(values: &[(&str, &str)]) -> Parameters {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_named_stays_as_it_is_or_was() {
        let before =
            parameters(&[("Tenancy", "per-user"), ("SelfSignUp", "yes"), ("OfAnOlderTemplate", "1")]);
        let after = effective(&before, &parameters(&[("SelfSignUp", "no")])).unwrap();
        assert_eq!((after["Tenancy"].as_str(), after["SelfSignUp"].as_str()), ("per-user", "no"));
        assert_eq!((after["MaximumConcurrency"].as_str(), after.get("OfAnOlderTemplate")), ("10", None));
        assert!(effective(&before, &parameters(&[("Nonsense", "1")])).is_err());
    }

    #[test]
    fn who_had_a_tenant_each_is_put_into_one_only_by_that_change() {
        let (each, all) = (parameters(&[("Tenancy", "per-user")]), parameters(&[("Tenancy", "shared")]));
        assert!(joins_tenants(&each, &all));
        for (before, after) in [(&all, &each), (&each, &each), (&all, &all), (&Parameters::new(), &all)] {
            assert!(!joins_tenants(before, after));
        }
    }
}
