//! The JSON Schema of scenario files.

use super::file::File;

/// The schema, as `redeliver schema` prints it.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(File);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}
