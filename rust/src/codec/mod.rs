//! Reading and writing HTTP/1.x message heads and body framing. No I/O.
