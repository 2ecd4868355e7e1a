//! Real servers on this machine. (Being built.)
