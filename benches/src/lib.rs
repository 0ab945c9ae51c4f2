//! Benches of the whole workspace live in `benches/`; the library is empty.
