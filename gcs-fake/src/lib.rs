//! A test server with faults that speaks the part of Google Cloud Storage's XML API that the
//! lake uses.
