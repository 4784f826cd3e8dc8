//! Validation: what a request must be like to be forwarded.

use super::{schema, Wrong};
use rkyv::{Archive, Serialize};
use serde::Deserialize;

#[derive(Deserialize, Archive, Serialize, Debug, Clone, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Validation {
    /// JSON text of the schema for JSON bodies.
    pub json_schema: Option<String>,
}

impl Validation {
    pub fn check(&self, wrong: &mut Wrong<'_>) {
        if let Some(Err(rule)) = self.json_schema.as_deref().map(schema::check) {
            wrong("validation.jsonSchema", rule);
        }
    }
}
