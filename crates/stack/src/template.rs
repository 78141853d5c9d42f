//! A CloudFormation template, read: what stands in it once parameters and conditions are known.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, EventReceiver, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value, json};

/// Values of parameters, by name.
pub type Parameters = BTreeMap<String, String>;

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Value);

impl Template {
    /// Reads one in YAML or JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tree = Tree::default();
        Parser::new_from_str(text).load(&mut tree, false).map_err(|error| error.to_string())?;
        match tree.root {
            Some(root @ Value::Object(_)) => Ok(Self(root)),
            _ => Err("it is no mapping".into()),
        }
    }

    /// One of its sections, such as `Resources`.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let members = self.0.get(name).and_then(Value::as_object).into_iter().flatten();
        members.map(|(name, value)| (name.as_str(), value))
    }

    /// The parameters it takes, with what they are when nobody says otherwise.
    pub fn defaults(&self) -> BTreeMap<&str, Option<String>> {
        let default = |value: &Value| value.get("Default").map(text);
        self.section("Parameters").map(|(name, value)| (name, default(value))).collect()
    }

    /// The same with these parameters put in, and without what their conditions leave out. What only AWS will know stays as
    /// `${Queue.Arn}`.
    #[must_use]
    pub fn resolved(&self, parameters: &Parameters) -> Self {
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, definition) in self.section("Parameters") {
            let given = parameters.get(name).cloned().or_else(|| definition.get("Default").map(text));
            let Some(given) = given else { continue };
            let list = definition["Type"] == "CommaDelimitedList";
            let value = if list { given.split(',').map(str::trim).collect() } else { Value::String(given) };
            values.insert(name, value);
        }
        let scope = Scope { template: self, values };
        let mut root = scope.resolve(&self.0).unwrap_or_default();
        if let Some(resources) = root.get_mut("Resources").and_then(Value::as_object_mut) {
            resources.retain(|_, resource| {
                resource
                    .get("Condition")
                    .is_none_or(|condition| scope.holds(&json!({"Condition": condition})))
            });
        }
        Self(root)
    }

    /// The same with these resources alone and nothing that comes of them: what a stack begins with that takes back what an
    /// earlier one has left.
    #[must_use]
    pub fn only(&self, resources: &[&str]) -> Self {
        let mut root = self.0.clone();
        if let Some(root) = root.as_object_mut() {
            root.retain(|section, _| !matches!(section.as_str(), "Outputs" | "Metadata" | "Rules"));
            if let Some(members) = root.get_mut("Resources").and_then(Value::as_object_mut) {
                members.retain(|name, _| resources.contains(&name.as_str()));
            }
        }
        Self(root)
    }

    /// As AWS takes it.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }
}

/// A scalar as a parameter has it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What names stand for.
struct Scope<'a> {
    template: &'a Template,
    values: BTreeMap<&'a str, Value>,
}

impl Scope<'_> {
    /// `None` is `AWS::NoValue`.
    fn resolve(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Object(members) => match members.iter().next() {
                Some((function, argument)) if members.len() == 1 => self.call(function, argument, value),
                _ => Some(self.members(members)),
            },
            Value::Array(items) => Some(items.iter().filter_map(|item| self.resolve(item)).collect()),
            scalar => Some(scalar.clone()),
        }
    }

    fn members(&self, members: &Map<String, Value>) -> Value {
        let member = |(name, value): (&String, &Value)| Some((name.clone(), self.resolve(value)?));
        Value::Object(members.iter().filter_map(member).collect())
    }

    fn call(&self, function: &str, argument: &Value, whole: &Value) -> Option<Value> {
        let parts = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        Some(match (function, argument, parts) {
            ("Ref", Value::String(name), _) if name == "AWS::NoValue" => return None,
            ("Ref", Value::String(name), _) => self.named(name),
            ("Fn::GetAtt", Value::String(path), _) => format!("${{{path}}}").into(),
            ("Fn::GetAtt", _, path) => {
                format!("${{{}}}", path.iter().map(text).collect::<Vec<_>>().join(".")).into()
            }
            ("Fn::Sub", Value::String(pattern), _) => self.substitute(pattern, &Map::new()).into(),
            ("Fn::Sub", _, [Value::String(pattern), Value::Object(names)]) => {
                self.substitute(pattern, names).into()
            }
            ("Fn::If", _, [condition, then, otherwise]) => {
                let chosen = if self.holds(&json!({"Condition": condition})) { then } else { otherwise };
                return self.resolve(chosen);
            }
            ("Fn::Join", _, [separator, list]) => {
                let Some(Value::Array(items)) = self.resolve(list) else { return Some(whole.clone()) };
                items.iter().map(text).collect::<Vec<_>>().join(&text(separator)).into()
            }
            ("Fn::Split", _, [separator, whole]) => {
                let whole = text(&self.resolve(whole)?);
                whole.split(&text(separator)).map(str::to_owned).collect()
            }
            ("Fn::Select", _, [index, list]) => {
                let index = text(index).parse::<usize>().ok();
                let list = self.resolve(list)?;
                index.and_then(|index| list.get(index)).cloned().unwrap_or_else(|| whole.clone())
            }
            _ => json!({function: self.resolve(argument)?}),
        })
    }

    fn named(&self, name: &str) -> Value {
        self.values.get(name).cloned().unwrap_or_else(|| format!("${{{name}}}").into())
    }

    fn substitute(&self, pattern: &str, names: &Map<String, Value>) -> String {
        let (mut made, mut rest) = (String::new(), pattern);
        while let Some((before, after)) = rest.split_once("${") {
            made.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                rest = after;
                continue;
            };
            let value = match names.get(name) {
                Some(value) => self.resolve(value).map(|value| text(&value)).unwrap_or_default(),
                None => text(&self.named(name.trim())),
            };
            made.push_str(&value);
            rest = after;
        }
        made + rest
    }

    /// Whether a condition holds.
    fn holds(&self, condition: &Value) -> bool {
        let Some((function, argument)) = condition.as_object().and_then(|members| members.iter().next())
        else {
            return condition.as_bool().unwrap_or(true);
        };
        let parts = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        match (function.as_str(), parts) {
            ("Condition", _) => {
                let name = argument.as_str().unwrap_or_default();
                let found = self.template.section("Conditions").find(|(known, _)| *known == name);
                found.is_none_or(|(_, condition)| self.holds(condition))
            }
            ("Fn::Equals", [one, other]) => self.resolve(one) == self.resolve(other),
            ("Fn::Not", [one]) => !self.holds(one),
            ("Fn::And", all) => all.iter().all(|one| self.holds(one)),
            ("Fn::Or", all) => all.iter().any(|one| self.holds(one)),
            _ => true,
        }
    }
}

/// What the parser has read so far.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Value>,
}

/// A list or a mapping that has not ended yet.
struct Open {
    tag: Option<String>,
    /// Of a mapping, with the name that waits for its value.
    members: Option<(Map<String, Value>, Option<String>)>,
    items: Vec<Value>,
}

impl Tree {
    fn begin(&mut self, tag: Option<Cow<'_, Tag>>, mapping: bool) {
        let members = mapping.then(|| (Map::new(), None));
        self.open.push(Open { tag: short(tag), members, items: Vec::new() });
    }

    fn end(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let value = open.members.map_or(Value::Array(open.items), |(members, _)| Value::Object(members));
        self.put(called(open.tag.as_deref(), value));
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open { members: Some((members, name)), .. }) => match name.take() {
                None => *name = Some(text(&value)),
                Some(name) => drop(members.insert(name, value)),
            },
            Some(Open { items, .. }) => items.push(value),
        }
    }
}

impl<'input> EventReceiver<'input> for Tree {
    fn on_event(&mut self, event: Event<'input>) {
        match event {
            Event::Scalar(text, style, _, tag) => {
                let tag = short(tag);
                let value = if style == ScalarStyle::Plain && tag.is_none() {
                    plain(&text)
                } else {
                    Value::String(text.into_owned())
                };
                self.put(called(tag.as_deref(), value));
            }
            Event::SequenceStart(_, tag) => self.begin(tag, false),
            Event::MappingStart(_, tag) => self.begin(tag, true),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            // CloudFormation takes no aliases.
            Event::Alias(_) => self.put(Value::Null),
            _ => {}
        }
    }
}

fn short(tag: Option<Cow<'_, Tag>>) -> Option<String> {
    tag.filter(|tag| tag.handle == "!").map(|tag| tag.suffix.clone())
}

/// The long form of what a tag is short for.
fn called(tag: Option<&str>, value: Value) -> Value {
    match tag {
        None => value,
        Some(name @ ("Ref" | "Condition")) => json!({name: value}),
        Some("GetAtt") => match value.as_str().and_then(|path| path.split_once('.')) {
            Some((resource, attribute)) => json!({"Fn::GetAtt": [resource, attribute]}),
            None => json!({"Fn::GetAtt": value}),
        },
        Some(name) => json!({format!("Fn::{name}"): value}),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" | "~" | "" => Value::Null,
        number => number.parse::<i64>().map_or_else(|_| number.into(), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
Parameters:
  Name: { Type: String, Default: "" }
  Origins: { Type: CommaDelimitedList, Default: "*" }
  Most: { Type: Number, Default: 10 }
Conditions:
  Named: !Not [!Equals [!Ref Name, ""]]
  Both: !And [!Condition Named, !Equals [!Ref Most, "10"]]
Resources:
  Always:
    Type: T
    Properties:
      Text: !Sub "a-${Name}-${AWS::Region}-${Other.Arn}"
      Mapped: !Sub ["${X}/*", { X: !If [Named, !Ref Name, all] }]
      Origins: !Ref Origins
      Gone: !If [Named, !Ref "AWS::NoValue", here]
      Most: !Ref Most
      Domain: !Select [1, !Split ["@", "a@b"]]
      Joined: !Join ["", ["arn:", !Ref AWS::Partition]]
      Arn: !GetAtt Other.Arn
  Sometimes: { Type: T, Condition: Both }
"#;

    fn properties(parameters: &[(&str, &str)]) -> (Value, bool) {
        let given =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let resolved = Template::parse(SAMPLE).unwrap().resolved(&given);
        let resources: BTreeMap<_, _> = resolved.section("Resources").collect();
        (resources["Always"]["Properties"].clone(), resources.contains_key("Sometimes"))
    }

    #[test]
    fn parameters_and_conditions_decide_what_stands_in_a_template() {
        let (found, sometimes) = properties(&[]);
        assert_eq!(
            found,
            json!({
                "Text": "a--${AWS::Region}-${Other.Arn}", "Mapped": "all/*", "Origins": ["*"], "Gone": "here", "Most": "10",
                "Domain": "b", "Joined": "arn:${AWS::Partition}", "Arn": "${Other.Arn}",
            })
        );
        assert!(!sometimes);
        let (found, sometimes) = properties(&[("Name", "n"), ("Origins", "https://a, https://b")]);
        assert_eq!(
            (&found["Text"], &found["Mapped"], &found["Origins"], found.get("Gone")),
            (
                &json!("a-n-${AWS::Region}-${Other.Arn}"),
                &json!("n/*"),
                &json!(["https://a", "https://b"]),
                None
            )
        );
        assert!(sometimes);
    }

    #[test]
    fn json_is_read_like_yaml_and_what_is_none_is_refused() {
        let yaml = Template::parse(SAMPLE).unwrap();
        assert_eq!(Template::parse(&yaml.to_json()).unwrap(), yaml);
        for bad in ["", "- a", "a: [", "text"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
