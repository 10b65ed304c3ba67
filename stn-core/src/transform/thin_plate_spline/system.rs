use candle_core::{Result, bail};

/// The spline's linear system, solved: what each control point contributes to the map, for each term of it.
///
/// In a frame of its own, with the control points' mean at 0 and the farthest at distance 1: the spline is the same in every
/// frame, the system's rounding errors are not.
pub(super) struct System {
    control: Vec<[f64; 2]>,
    centre: [f64; 2],
    scale: f64,
    /// The terms' coefficients (K + 3, K): row i times the K source coordinates is the coefficient of term i.
    coefficients: Vec<f64>,
}

/// Closer than this, in the frame, points are one point, and a cloud as thin is a line: `f32` knows no better.
const THIN: f64 = 1e-6;

impl System {
    pub(super) fn new(points: &[[f32; 2]], regularisation: f64) -> Result<Self> {
        let k = points.len();
        if k < 3 {
            bail!("thin_plate_spline: at least 3 control points are needed, got {k}")
        }
        if !(regularisation.is_finite() && regularisation >= 0.0) {
            bail!("thin_plate_spline: the regularisation must be zero or a positive number, got {regularisation}")
        }
        if let Some(i) = points.iter().position(|p| !p.iter().all(|v| v.is_finite())) {
            bail!("thin_plate_spline: control point {i} must be finite, got {:?}", points[i])
        }
        let wide: Vec<[f64; 2]> = points.iter().map(|p| p.map(f64::from)).collect();
        let sum = wide.iter().fold([0.0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
        let centre = sum.map(|v| v / k as f64);
        let scale = wide.iter().map(|p| distance_squared(*p, centre)).fold(0.0, f64::max).sqrt();
        for (j, q) in wide.iter().enumerate() {
            for (i, p) in wide[..j].iter().enumerate() {
                if distance_squared(*p, *q).sqrt() <= THIN * scale {
                    bail!("thin_plate_spline: control points {i} and {j} coincide at {:?}", points[j])
                }
            }
        }
        let control: Vec<_> = wide.iter().map(|p| frame(*p, centre, scale)).collect();
        if width_squared(&control) <= THIN * THIN * k as f64 {
            bail!("thin_plate_spline: the control points must not all lie on one line")
        }
        let Some(coefficients) = solve(&control, regularisation / (scale * scale)) else {
            bail!(
                "thin_plate_spline: the system of these control points, with a regularisation of {regularisation}, has no solution to the precision of f64"
            )
        };
        Ok(Self { control, centre, scale, coefficients })
    }

    /// The number of control points, K.
    pub(super) fn control_points(&self) -> usize {
        self.control.len()
    }

    /// The weights (K,) of the source points in the image of `point`: they sum to 1.
    pub(super) fn weights(&self, point: [f64; 2]) -> Vec<f64> {
        let mut weights = vec![0.0; self.control.len()];
        let terms = terms(&self.control, frame(point, self.centre, self.scale));
        for (term, row) in terms.iter().zip(self.coefficients.chunks_exact(self.control.len())) {
            for (weight, coefficient) in weights.iter_mut().zip(row) {
                *weight += term * coefficient;
            }
        }
        weights
    }
}

fn frame(p: [f64; 2], centre: [f64; 2], scale: f64) -> [f64; 2] {
    [(p[0] - centre[0]) / scale, (p[1] - centre[1]) / scale]
}

fn distance_squared(p: [f64; 2], q: [f64; 2]) -> f64 {
    (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2)
}

/// The sum of the squared distances from the line that comes closest to points round 0: the smaller eigenvalue of their
/// scatter matrix.
fn width_squared(points: &[[f64; 2]]) -> f64 {
    let sum = |f: fn(&[f64; 2]) -> f64| points.iter().map(f).sum::<f64>();
    let (xx, xy, yy) = (sum(|p| p[0] * p[0]), sum(|p| p[0] * p[1]), sum(|p| p[1] * p[1]));
    let larger = (xx + yy + ((xx - yy).powi(2) + 4.0 * xy * xy).sqrt()) / 2.0;
    (xx * yy - xy * xy) / larger // the product of the two over the larger: no cancellation of near equals
}

/// The terms of the map at a point: U of the distance to each control point, then 1, x, y.
fn terms(control: &[[f64; 2]], p: [f64; 2]) -> Vec<f64> {
    control.iter().map(|c| radial(distance_squared(p, *c))).chain([1.0, p[0], p[1]]).collect()
}

/// U(r) = r^2 log r from r^2. libm's logarithm: the same bits everywhere.
fn radial(squared: f64) -> f64 {
    if squared == 0.0 { 0.0 } else { 0.5 * squared * libm::log(squared) }
}

/// Solves `[[U + regularisation, P], [P^T, 0]] X = [I; 0]` by elimination with row pivots; the result is (K + 3, K).
fn solve(control: &[[f64; 2]], regularisation: f64) -> Option<Vec<f64>> {
    let k = control.len();
    let n = k + 3;
    // Row i: the system's n entries, then the k right-hand sides.
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut row = match control.get(i) {
                Some(&point) => terms(control, point),
                None => control.iter().map(|c| [1.0, c[0], c[1]][i - k]).chain([0.0; 3]).collect(),
            };
            if i < k {
                row[i] += regularisation;
            }
            row.extend((0..k).map(|j| f64::from(u8::from(i == j))));
            row
        })
        .collect();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()))?;
        rows.swap(column, pivot);
        let head = std::mem::take(&mut rows[column]);
        if head[column].is_nan() || head[column].abs() < 1e-14 {
            return None;
        }
        let head: Vec<f64> = head.iter().map(|v| v / head[column]).collect();
        for row in rows.iter_mut().filter(|row| !row.is_empty()) {
            let factor = row[column];
            for (value, pivot) in row.iter_mut().zip(&head) {
                *value -= factor * pivot;
            }
        }
        rows[column] = head;
    }
    let solution: Vec<f64> = rows.into_iter().flat_map(|row| row[n..].to_vec()).collect();
    solution.iter().all(|v| v.is_finite()).then_some(solution)
}
