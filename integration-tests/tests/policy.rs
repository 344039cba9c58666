//! Rules of the repository itself. No lab, no root.

mod dependency_policy;
mod failure_modes_doc;
mod unit_files;
mod workspace_layout;
