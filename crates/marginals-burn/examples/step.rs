use burn::tensor::{Device, Distribution, Tensor};
use marginals_burn::SlotAttentionConfig;
use std::time::Instant;
fn main() {
    let threads: usize = std::env::args().nth(1).and_then(|x| x.parse().ok()).unwrap_or(1);
    let iterations: usize = std::env::args().nth(2).and_then(|x| x.parse().ok()).unwrap_or(3);
    let rounds: usize = std::env::args().nth(3).and_then(|x| x.parse().ok()).unwrap_or(200);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let device = Device::flex().autodiff();
        let module = SlotAttentionConfig::new(64, 64)
            .with_iterations(iterations)
            .with_hidden_width(Some(128))
            .init(&device)
            .unwrap();
        let draw = |m| Tensor::<3>::random([1, m, 64], Distribution::Normal(0.0, 1.0), &device);
        let (x, start, up) = (draw(4096).require_grad(), draw(8).require_grad(), draw(8));
        let (mut f, mut t) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..rounds {
            let s = Instant::now();
            let out = module.forward_from(x.clone(), start.clone()).unwrap();
            f = f.min(s.elapsed().as_secs_f64());
            let g = (out * up.clone()).sum().backward();
            let gx = x.grad(&g).unwrap();
            t = t.min(s.elapsed().as_secs_f64());
            std::hint::black_box(gx);
        }
        println!(
            "threads {threads}, iterations {iterations}: forward {:.3} ms, both {:.3} ms",
            f * 1e3,
            t * 1e3
        );
    });
}
