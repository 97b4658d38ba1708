//! The chart of throughput over writers, as SVG: both axes logarithmic, because writers double and
//! throughput spans decades. Pure.

use std::fmt::Write;

use crate::number::grouped;

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 606.0;
/// The plot within the picture; the legend stands to the right of it.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 496.0;
/// The dashes of the legend; words stand to the right of them.
const LEGEND_FROM: f64 = RIGHT + 24.0;
const LEGEND_TO: f64 = RIGHT + 60.0;

const BARE_COLOR: &str = "#7b2cbf";
const BARE_DASH: &str = "3 3";

/// One line of the chart.
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub color: &'static str,
    /// How its line is broken, as SVG has it; empty for a whole one.
    pub dash: &'static str,
    /// How its points are marked.
    pub mark: Mark,
    /// Writers, ascending, and puts a second.
    pub points: Vec<(f64, f64)>,
}

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A disc.
    Filled,
    /// A ring.
    Hollow,
}

/// The chart of these lines above that of the bare loop; `None` without a point.
pub fn chart(series: &[Series], bare_per_s: f64, machine: &[String]) -> Option<String> {
    let points = || series.iter().flat_map(|series| series.points.iter().copied());
    points().next()?;
    let rates = || points().map(|(_, rate)| rate).chain([bare_per_s]).filter(|rate| *rate > 0.0);
    let lowest = decade_below(rates().fold(f64::MAX, f64::min));
    let highest = decade_above(rates().fold(1.0, f64::max)).max(lowest * 10.0);
    let writers_max = points().map(|(writers, _)| writers).fold(2.0, f64::max);
    let axes = Axes { writers: (1.0, writers_max), rate: (lowest, highest) };
    let mut svg = head();
    for (index, line) in machine.iter().enumerate() {
        footnote(&mut svg, BOTTOM + 68.0 + 15.0 * index as f64, line);
    }
    axes.draw(&mut svg);
    bare_line(&mut svg, &axes, bare_per_s);
    for (index, series) in series.iter().enumerate() {
        series.draw(&mut svg, &axes);
        series.legend(&mut svg, legend_y(index));
    }
    bare_legend(&mut svg, legend_y(series.len()), bare_per_s);
    svg.push_str("</svg>\n");
    Some(svg)
}

fn decade_below(rate: f64) -> f64 {
    10f64.powf(rate.log10().floor())
}

fn decade_above(rate: f64) -> f64 {
    10f64.powf(rate.log10().ceil().max(1.0))
}

/// What is where: the first and the last value of both axes.
struct Axes {
    writers: (f64, f64),
    rate: (f64, f64),
}

impl Axes {
    fn x(&self, writers: f64) -> f64 {
        let (first, last) = self.writers;
        LEFT + (RIGHT - LEFT) * (writers / first).log2() / (last / first).log2()
    }

    fn y(&self, rate: f64) -> f64 {
        let (first, last) = self.rate;
        BOTTOM - (BOTTOM - TOP) * (rate.max(first) / first).log10() / (last / first).log10()
    }

    fn draw(&self, svg: &mut String) {
        let mut decade = self.rate.0;
        while decade <= self.rate.1 * 1.001 {
            let y = self.y(decade);
            line(svg, (LEFT, y), (RIGHT, y), "#d5d9de", "");
            text(svg, LEFT - 10.0, y + 4.0, "end", &grouped(decade));
            for part in 2..10 {
                let y = self.y(decade * f64::from(part));
                if decade < self.rate.1 * 0.999 {
                    line(svg, (LEFT, y), (RIGHT, y), "#f0f2f4", "");
                }
            }
            decade *= 10.0;
        }
        let mut writers = self.writers.0;
        while writers <= self.writers.1 {
            let x = self.x(writers);
            line(svg, (x, TOP), (x, BOTTOM), "#e8ebee", "");
            text(svg, x, BOTTOM + 20.0, "middle", &grouped(writers));
            writers *= 2.0;
        }
        line(svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "#3b4148", "");
        line(svg, (LEFT, TOP), (LEFT, BOTTOM), "#3b4148", "");
        text(svg, (LEFT + RIGHT) / 2.0, BOTTOM + 44.0, "middle", "writers or tasks");
        text(svg, LEFT, TOP - 12.0, "middle", "puts/s");
    }
}

impl Series {
    fn draw(&self, svg: &mut String, axes: &Axes) {
        let place = |(writers, rate): &(f64, f64)| (axes.x(*writers), axes.y(*rate));
        let places: Vec<(f64, f64)> = self.points.iter().map(place).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        push(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\" \
                 stroke-dasharray=\"{}\"/>\n",
                path.join(" "),
                self.color,
                self.dash
            ),
        );
        for (place, (writers, rate)) in places.into_iter().zip(&self.points) {
            let told = format!("{}: {} puts/s at {writers}", self.name, grouped(*rate));
            self.point(svg, place, &told);
        }
    }

    fn point(&self, svg: &mut String, (x, y): (f64, f64), title: &str) {
        let fill = match self.mark {
            Mark::Filled => self.color,
            Mark::Hollow => "white",
        };
        push(
            svg,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{}\" \
                 stroke-width=\"2\"><title>{}</title></circle>\n",
                self.color,
                escaped(title)
            ),
        );
    }

    fn legend(&self, svg: &mut String, y: f64) {
        let (from, to) = (LEGEND_FROM, LEGEND_TO);
        push(
            svg,
            format_args!(
                "<line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" stroke=\"{}\" \
                 stroke-width=\"2.5\" stroke-dasharray=\"{}\"/>\n",
                self.color, self.dash
            ),
        );
        self.point(svg, ((from + to) / 2.0, y), &self.name);
        text(svg, to + 10.0, y + 4.0, "start", &self.name);
    }
}

fn head() -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#22262a\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"16\" font-weight=\"600\">\
         Durable puts over writers</text>\n",
    )
}

fn footnote(svg: &mut String, y: f64, text: &str) {
    push(
        svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{y}\" font-size=\"11\" fill=\"#6c757d\">{}</text>\n",
            escaped(text)
        ),
    );
}

fn bare_line(svg: &mut String, axes: &Axes, bare: f64) {
    let y = axes.y(bare);
    line(svg, (LEFT, y), (RIGHT, y), BARE_COLOR, BARE_DASH);
}

fn bare_legend(svg: &mut String, y: f64, bare: f64) {
    line(svg, (LEGEND_FROM, y), (LEGEND_TO, y), BARE_COLOR, BARE_DASH);
    let name = format!("bare loop of 4 KiB: {}/s", grouped(bare));
    text(svg, LEGEND_TO + 10.0, y + 4.0, "start", &name);
}

fn legend_y(index: usize) -> f64 {
    TOP + 10.0 + 24.0 * index as f64
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), color: &str, dash: &str) {
    push(
        svg,
        format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{color}\" \
             stroke-dasharray=\"{dash}\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    push(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
            escaped(text)
        ),
    );
}

fn push(svg: &mut String, what: std::fmt::Arguments<'_>) {
    svg.write_fmt(what).expect("writing to a string does not fail");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        let (name, points) = (name.to_owned(), points.to_vec());
        Series { name, color: "#0b6e4f", dash: "", mark: Mark::Hollow, points }
    }

    #[test]
    fn every_series_has_a_line_and_a_legend() {
        let all = [
            series("uring & more", &[(1.0, 10_000.0), (64.0, 160_000.0)]),
            series("pwrite", &[(64.0, 120_000.0)]),
        ];
        let svg = chart(&all, 9_000.0, &["Linux <6.18> & ext4".to_owned()]).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("uring &amp; more") && svg.contains(">pwrite<"));
        assert!(svg.contains("Linux &lt;6.18&gt; &amp; ext4"));
        assert!(svg.contains(">1,000,000<") && !svg.contains(">10,000,000<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn one_point_is_a_chart_and_none_is_not() {
        let one = chart(&[series("one", &[(1.0, 1000.0)])], 0.0, &[]);
        assert!(one.is_some_and(|svg| !svg.contains("NaN")));
        assert!(chart(&[], 1000.0, &[]).is_none());
        assert!(chart(&[series("none", &[])], 1000.0, &[]).is_none());
    }

    #[test]
    fn axes_put_doublings_and_decades_at_equal_distances() {
        let axes = Axes { writers: (1.0, 64.0), rate: (1e3, 1e6) };
        assert_eq!((axes.x(1.0), axes.x(8.0), axes.x(64.0)), (LEFT, (LEFT + RIGHT) / 2.0, RIGHT));
        assert_eq!((axes.y(1e3), axes.y(1e6)), (BOTTOM, TOP));
    }
}
