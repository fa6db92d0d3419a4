//! What the kernel programs and the agent must agree on: layouts, limits and names.
#![no_std]
