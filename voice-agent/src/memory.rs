//! The allocator of the whole program. With 10,000 rooms a start or a storm needs tens of MiB for a second; glibc's would keep
//! much of them for ever, in pages that are half empty.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc as it starts, under this name. One arena, since few threads allocate at a time; what is freed in whole pages goes
/// back to the system within 100 ms, for rooms keep the agent busy all the time, and jemalloc's own 10 s would keep what a storm
/// needed (at once, 0 ms, costs 6 % of a core in madvise while changes go to Redis as fast as they can: `cargo xtask bench cas`; a
/// thread of jemalloc's own would begin before privileges are given up); and each of a dozen threads hoards little.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static OPTIONS: &[u8; 111] =
    b"narenas:1,dirty_decay_ms:100,muzzy_decay_ms:0,tcache_max:1024,tcache_nslots_small_max:20,tcache_nslots_large:1\0";
