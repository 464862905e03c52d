//! Seeded random numbers (xoshiro256++ of Blackman and Vigna, seeded by splitmix64). Our own forty lines, because a
//! seed must give the same decisions for ever, and crates change their streams between versions.

#[derive(Clone, Debug)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut z = seed;
        Self(std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }))
    }

    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in `0..n` (0 for `n == 0`), by the high half of a product: the bias is below 2^-40 for our sizes.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let wide = u128::from(self.next()) * (n as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `ns` times something in `[0.9, 1.1)`, so that many that wait for the same thing do not come back together.
    pub(crate) fn jitter(&mut self, ns: u64) -> u64 {
        crate::time::ns_of(crate::time::s_of(ns) * (0.9 + 0.2 * self.unit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_and_all_in_range() {
        let (mut a, mut b, mut c) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let mut seen = [0u32; 5];
        for _ in 0..5_000 {
            let n = a.below(5);
            assert_eq!(n, b.below(5));
            seen[n] += 1;
            c.next();
        }
        assert!(seen.iter().all(|n| (900..1_100).contains(n)), "{seen:?}");
        assert_ne!(a.next(), c.next());
        assert_eq!(a.below(0), 0);
        for _ in 0..100 {
            assert!((900..=1_100).contains(&a.jitter(1_000)));
        }
    }
}
