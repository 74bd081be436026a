//! kival-server
