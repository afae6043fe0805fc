// SPDX-License-Identifier: Apache-2.0
//! The picture: one bar for each of our times beside a baseline's.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::numbers::digits;
use crate::report::Bar;

const WIDTH: u32 = 1000;
const ROW: i32 = 26;
const TOP: i32 = 64;
/// Where bars start, and how long one is whose time is the baseline's.
const LEFT: i32 = 560;
const UNIT: i32 = 180;
/// A longer bar is cut.
const LONGEST: f64 = 2.0;
const FASTER: RGBColor = RGBColor(46, 125, 80);
const SLOWER: RGBColor = RGBColor(178, 84, 52);
const FONT: &str = "sans-serif";

/// Draws the bars into an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn draw(bars: &[Bar], path: &Path) -> Result<()> {
    let height = TOP + ROW * i32::try_from(bars.len())? + 20;
    let root = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    draw_on(&root, bars, height)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("draw {}", path.display()))
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_on<'a>(root: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>, bars: &[Bar], height: i32) -> Drawn<'a> {
    root.fill(&WHITE)?;
    let style = |size: i32, at: HPos| (FONT, size).into_text_style(root).pos(Pos::new(at, VPos::Center));
    root.draw(&Text::new(
        "ciao's time, as a part of the baseline's: shorter is faster",
        (20, 24),
        style(18, HPos::Left),
    ))?;
    for (row, bar) in (0..).zip(bars) {
        let middle = TOP + ROW * row + ROW / 2;
        let length = (bar.ratio.min(LONGEST) * f64::from(UNIT)) as i32;
        let color = if bar.ratio <= 1.0 { FASTER } else { SLOWER };
        let name = format!("{}  (of: {})", bar.what, bar.baseline);
        root.draw(&Text::new(name, (LEFT - 10, middle), style(13, HPos::Right)))?;
        root.draw(&Rectangle::new([(LEFT, middle - 8), (LEFT + length.max(1), middle + 8)], color.filled()))?;
        root.draw(&Text::new(digits(bar.ratio), (LEFT + length + 6, middle), style(13, HPos::Left)))?;
    }
    let one = LEFT + UNIT;
    root.draw(&PathElement::new([(one, TOP - 4), (one, height - 16)], BLACK.stroke_width(1)))?;
    root.draw(&Text::new("1 = the baseline", (one, TOP - 12), style(12, HPos::Center)))?;
    root.present()
}
