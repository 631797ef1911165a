//! The one configuration file: types, defaults, and errors that say what would be right
