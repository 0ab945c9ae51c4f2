//! Tests of the whole workspace live beside this file; the library is empty.
