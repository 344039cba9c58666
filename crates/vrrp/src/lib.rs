//! VRRP versions 2 and 3: the packets and the virtual router.
#![forbid(unsafe_code)]
