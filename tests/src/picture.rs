//! A drawing as a viewer shows it: rendered by librsvg, its pixels read by ffmpeg.

use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// A rendered picture.
#[derive(Debug)]
pub struct Picture {
    /// The PNG, beside the drawing.
    pub png: PathBuf,
    /// How many pixels have a colour (red, green, blue).
    pub colours: BTreeMap<[u8; 3], usize>,
    /// All of them.
    pub pixels: usize,
}

/// Renders an SVG, for viewers that prefer dark or light.
pub fn render(svg: &Path, dark: bool) -> anyhow::Result<Picture> {
    let text = std::fs::read_to_string(svg)?;
    let (name, text) = match dark {
        // librsvg does not ask what is preferred: the rules for dark are made to hold always.
        true => ("dark", always_dark(&text).context("no rules for dark")?),
        false => ("light", text),
    };
    let drawn = svg.with_extension(format!("{name}.svg"));
    let png = svg.with_extension(format!("{name}.png"));
    std::fs::write(&drawn, text)?;
    let mut rsvg = Command::new("rsvg-convert");
    run(rsvg.arg("--output").arg(&png).arg(&drawn))?;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(&png);
    let raw = run(ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]))?;
    let mut colours = BTreeMap::new();
    for pixel in raw.as_chunks::<3>().0 {
        *colours.entry(*pixel).or_default() += 1;
    }
    Ok(Picture {
        png,
        colours,
        pixels: raw.len() / 3,
    })
}

/// Takes the braces of `@media (prefers-color-scheme:dark){…}` away.
fn always_dark(svg: &str) -> Option<String> {
    const RULE: &str = "@media (prefers-color-scheme:dark){";
    let (before, rest) = svg.split_once(RULE)?;
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    })?;
    Some(format!("{before}{}{}", &rest[..end], &rest[end + 1..]))
}

fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let out = command.output().with_context(|| format!("run {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out.stdout)
}
