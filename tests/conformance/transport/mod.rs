pub(crate) const SUITES: &[&[&str]] = &[];
