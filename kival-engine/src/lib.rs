//! kival-engine
