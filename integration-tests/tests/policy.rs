//! Rules of the repository itself. No lab, no root.

mod dependency_policy;
mod workspace_layout;
