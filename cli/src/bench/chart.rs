//! The chart of throughput over writers, as SVG: both axes logarithmic, because writers double and
//! throughput spans decades. Pure.

use std::fmt::Write;

use super::plan::{Subject, Workload};
use super::rows::Row;
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
struct Series<'a> {
    workload: Workload,
    subject: Subject,
    points: Vec<&'a Row>,
}

/// The chart; `None` if no durable puts were measured.
pub fn chart(rows: &[Row], machine: &[String]) -> Option<String> {
    let series = series(rows);
    let all: Vec<&Row> = series.iter().flat_map(|series| series.points.iter().copied()).collect();
    let bare = mean(all.iter().map(|row| row.bare_per_s))?;
    let rates = || all.iter().map(|row| row.ops_per_s()).chain([bare]).filter(|rate| *rate > 0.0);
    let lowest = decade_below(rates().fold(f64::MAX, f64::min));
    let highest = decade_above(rates().fold(1.0, f64::max)).max(lowest * 10.0);
    let writers_max = all.iter().map(|row| f64::from(row.case.writers)).fold(2.0, f64::max);
    let axes = Axes { writers: (1.0, writers_max), rate: (lowest, highest) };
    let mut svg = head();
    for (index, line) in machine.iter().enumerate() {
        footnote(&mut svg, BOTTOM + 68.0 + 15.0 * index as f64, line);
    }
    axes.draw(&mut svg);
    bare_line(&mut svg, &axes, bare);
    for (index, series) in series.iter().enumerate() {
        series.draw(&mut svg, &axes);
        series.legend(&mut svg, legend_y(index));
    }
    bare_legend(&mut svg, legend_y(series.len()), bare);
    svg.push_str("</svg>\n");
    Some(svg)
}

fn series(rows: &[Row]) -> Vec<Series<'_>> {
    let mut all = Vec::new();
    for workload in [Workload::DurablePuts, Workload::DurablePutsTasks, Workload::SeparateDatabases]
    {
        for subject in [Subject::Uring, Subject::Pwrite, Subject::PwritePerCommit] {
            let of = |row: &&Row| row.case.workload == workload && row.subject == subject;
            let mut points: Vec<&Row> = rows.iter().filter(of).collect();
            points.sort_by_key(|row| row.case.writers);
            if !points.is_empty() {
                all.push(Series { workload, subject, points });
            }
        }
    }
    all
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
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

impl Series<'_> {
    fn color(&self) -> &'static str {
        match self.subject {
            Subject::Uring => "#0b6e4f",
            Subject::Pwrite => "#c8553d",
            Subject::PwritePerCommit => "#6c757d",
        }
    }

    fn dash(&self) -> &'static str {
        match self.workload {
            Workload::DurablePutsTasks => "7 4",
            Workload::SeparateDatabases => "1 5",
            _ => "",
        }
    }

    fn name(&self) -> String {
        let who = match self.workload {
            Workload::DurablePutsTasks => "tokio tasks",
            Workload::SeparateDatabases => "a database each",
            _ => "writers",
        };
        format!("{}, {who}", self.subject.label())
    }

    fn draw(&self, svg: &mut String, axes: &Axes) {
        let place = |row: &&Row| (axes.x(f64::from(row.case.writers)), axes.y(row.ops_per_s()));
        let places: Vec<(f64, f64)> = self.points.iter().map(place).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        push(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.5\" \
                 stroke-dasharray=\"{}\"/>\n",
                path.join(" "),
                self.color(),
                self.dash()
            ),
        );
        for ((x, y), row) in places.iter().zip(&self.points) {
            self.mark(
                svg,
                *x,
                *y,
                &format!(
                    "{}: {} puts/s at {}",
                    self.name(),
                    grouped(row.ops_per_s()),
                    row.case.writers
                ),
            );
        }
    }

    fn mark(&self, svg: &mut String, x: f64, y: f64, title: &str) {
        let (color, fill) = match self.workload {
            Workload::DurablePuts => (self.color(), self.color()),
            _ => (self.color(), "white"),
        };
        push(
            svg,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{color}\" \
                 stroke-width=\"2\"><title>{}</title></circle>\n",
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
                 stroke-width=\"2.5\" \
                 stroke-dasharray=\"{}\"/>\n",
                self.color(),
                self.dash()
            ),
        );
        self.mark(svg, (from + to) / 2.0, y, &self.name());
        text(svg, to + 10.0, y + 4.0, "start", &self.name());
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
    use super::super::rows::tests::row;
    use super::*;

    #[test]
    fn every_backend_has_a_line_and_a_legend() {
        let rows = [
            row(Workload::DurablePuts, 1, Subject::Uring, 10_000),
            row(Workload::DurablePuts, 64, Subject::Uring, 160_000),
            row(Workload::DurablePuts, 64, Subject::Pwrite, 120_000),
            row(Workload::DurablePutsTasks, 1024, Subject::Uring, 400_000),
            row(Workload::PointReads, 1, Subject::Uring, 9_000_000),
        ];
        let svg = chart(&rows, &["Linux <6.18> & ext4".to_owned()]).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("pwrite, writers") && svg.contains("uring, tokio tasks"));
        assert!(svg.contains("Linux &lt;6.18&gt; &amp; ext4"));
        assert!(svg.contains(">1,000,000<") && !svg.contains(">10,000,000<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn one_point_is_a_chart_and_none_is_not() {
        let rows = [row(Workload::DurablePuts, 1, Subject::Uring, 1000)];
        assert!(chart(&rows, &[]).is_some_and(|svg| !svg.contains("NaN")));
        assert!(chart(&[], &[]).is_none());
        assert!(chart(&[row(Workload::ColdReads, 64, Subject::Uring, 1000)], &[]).is_none());
    }

    #[test]
    fn axes_put_doublings_and_decades_at_equal_distances() {
        let axes = Axes { writers: (1.0, 64.0), rate: (1e3, 1e6) };
        assert_eq!((axes.x(1.0), axes.x(8.0), axes.x(64.0)), (LEFT, (LEFT + RIGHT) / 2.0, RIGHT));
        assert_eq!((axes.y(1e3), axes.y(1e6)), (BOTTOM, TOP));
    }
}
