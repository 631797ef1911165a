//! Coverage-guided fuzz targets for everything a peer can send
