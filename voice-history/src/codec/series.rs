//! A series of rows, one after the other, and back.

use super::{
    Malformed,
    row::{self, COLUMNS, NO_COLUMN, Row, is_counter},
    varint,
};

/// What writer and reader both know after each row.
#[derive(Debug, Clone)]
struct Model {
    /// What the next row is foreseen to be.
    foreseen: Row,
    /// By how much each counter last rose; of the others always 0.
    slope: Row,
    /// The columns that last differed.
    columns: u64,
    /// Before the first row nothing is foreseen, and no counter has risen.
    begun: bool,
}

impl Model {
    const NEW: Model = Model {
        foreseen: [0; COLUMNS],
        slope: [0; COLUMNS],
        columns: 0,
        begun: false,
    };

    /// The row was as foreseen, or is told now: looks one further.
    fn advance(&mut self) {
        for (value, slope) in self.foreseen.iter_mut().zip(&self.slope) {
            *value = value.wrapping_add(*slope);
        }
    }

    /// A column is `value`, and not as foreseen.
    fn correct(&mut self, column: usize, value: u64) {
        let (Some(foreseen), Some(slope)) = (self.foreseen.get_mut(column), self.slope.get_mut(column))
        else {
            return;
        };
        let last = foreseen.wrapping_sub(*slope);
        *foreseen = value;
        // A counter that went back began anew.
        let rises = self.begun && is_counter(column) && value >= last;
        *slope = if rises { value - last } else { 0 };
    }
}

/// Writes a series.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    model: Model,
    /// Rows since the last one that differed, which are not written yet.
    run: u64,
}

impl Writer {
    pub(crate) const NEW: Writer = Writer {
        model: Model::NEW,
        run: 0,
    };

    /// Appends a row to `out`: nothing when it is as foreseen.
    pub(crate) fn push(&mut self, row: &Row, out: &mut Vec<u8>) {
        let model = &mut self.model;
        let mut differ = 0u64;
        for (column, (is, foreseen)) in row.iter().zip(&model.foreseen).enumerate() {
            differ |= u64::from(is != foreseen) << column;
        }
        if differ == 0 && model.begun {
            self.run += 1;
            model.advance();
            return;
        }
        // Columns that differ now and then are taken along while that is cheaper than to name the columns anew.
        let spared = model.columns & !differ;
        let same = differ & !model.columns == 0 && spared.count_ones() <= varint::len(differ);
        varint::put(out, self.run << 1 | u64::from(same));
        if !same {
            model.columns = differ;
            varint::put(out, differ);
        }
        self.run = 0;
        let mut left = model.columns;
        while left != 0 {
            let column = left.trailing_zeros() as usize;
            left &= left - 1;
            let (is, foreseen) = (at(row, column), at(&model.foreseen, column));
            varint::put_signed(out, is.wrapping_sub(foreseen).cast_signed());
            model.correct(column, is);
        }
        model.begun = true;
        model.advance();
    }
}

/// A writer that waits for its next row, in few bytes: most columns are 0, and 10,000 wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Puts a writer in the place of the one that it holds. `work` is a buffer.
    pub(crate) fn hold(&mut self, writer: &Writer, work: &mut Vec<u8>) {
        let Writer { model, run } = writer;
        work.clear();
        varint::put(work, *run);
        varint::put(work, model.columns);
        row::pack(&model.foreseen, work);
        row::pack(&model.slope, work);
        if work.len() == self.0.len() {
            self.0.copy_from_slice(work);
        } else {
            self.0 = work.as_slice().into();
        }
    }

    /// Bytes that it takes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The writer; a new one before the first was put in.
    pub(crate) fn writer(&self) -> Writer {
        // Only `hold` makes these bytes, and all that it makes can be read.
        read_writer(&self.0).unwrap_or(Writer::NEW)
    }
}

fn read_writer(mut bytes: &[u8]) -> Result<Writer, Malformed> {
    let bytes = &mut bytes;
    Ok(Writer {
        run: varint::take(bytes)?,
        model: Model {
            columns: varint::take(bytes)?,
            foreseen: row::unpack(bytes)?,
            slope: row::unpack(bytes)?,
            begun: true,
        },
    })
}

/// Reads a series.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'b> {
    bytes: &'b [u8],
    model: Model,
    /// Rows as foreseen before the next that differs; `None`: not read yet.
    run: Option<(u64, bool)>,
    /// Rows still to come.
    left: u64,
}

impl<'b> Reader<'b> {
    /// `count` rows in `bytes`.
    pub(crate) fn new(bytes: &'b [u8], count: u64) -> Reader<'b> {
        Reader {
            bytes,
            model: Model::NEW,
            run: None,
            left: count,
        }
    }

    fn step(&mut self) -> Result<Row, Malformed> {
        let (run, same) = match self.run {
            Some(known) => known,
            // What follows the last row that differed is as foreseen.
            None if self.bytes.is_empty() && self.model.begun => (self.left + 1, true),
            None => {
                let head = varint::take(&mut self.bytes)?;
                (head >> 1, head & 1 == 1)
            }
        };
        if run > 0 {
            if !self.model.begun {
                return Err(Malformed("a series begins with a row that nothing could foresee"));
            }
            self.run = Some((run - 1, same));
        } else {
            self.run = None;
            self.read_differing(same)?;
        }
        let row = self.model.foreseen;
        self.model.advance();
        Ok(row)
    }

    fn read_differing(&mut self, same: bool) -> Result<(), Malformed> {
        if !same {
            self.model.columns = varint::take(&mut self.bytes)?;
            if self.model.columns >> COLUMNS != 0 {
                return Err(NO_COLUMN);
            }
        }
        let mut left = self.model.columns;
        while left != 0 {
            let column = left.trailing_zeros() as usize;
            left &= left - 1;
            let by = varint::take_signed(&mut self.bytes)?.cast_unsigned();
            let value = at(&self.model.foreseen, column).wrapping_add(by);
            self.model.correct(column, value);
        }
        self.model.begun = true;
        Ok(())
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Row, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let row = self.step();
        if row.is_err() {
            self.left = 0;
        }
        Some(row)
    }
}

/// The column of a set of columns; a set names none above [`COLUMNS`].
fn at(row: &Row, column: usize) -> u64 {
    row.get(column).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
