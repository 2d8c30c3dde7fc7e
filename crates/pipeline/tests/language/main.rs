//! The language through its public door, `courser_pipeline`: one module a view of it.

mod elsewhere;
mod evaluation;
mod explanation;
mod fact_sheet;
mod limits;
mod secrets;
mod world;
