//! The European Central Bank: units per euro of some thirty currencies, once on each working day.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use tally_pricing::parse_number;
use tally_types::Currency;

use crate::sheet::{Sheet, fiat_day};
use crate::venue::{Calls, Pair, ReadError, VenueSpec};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "ecb",
    host: "https://www.ecb.europa.eu",
    calls: Calls::Together("/stats/eurofxref/eurofxref-daily.xml"),
    pairs: &[],
    key: None,
    by_default: true,
    read,
};

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let euro: Currency = "EUR".parse().map_err(|_| ReadError::Missing("the euro"))?;
    let mut reader = Reader::from_str(body);
    let mut day = None;
    loop {
        let event = reader.read_event().map_err(|error| ReadError::Shape(error.into()))?;
        let cube = match event {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == b"Cube" => tag,
            Event::Eof => break,
            _ => continue,
        };
        if let Some(time) = attribute(&cube, "time") {
            day = fiat_day(&time);
        }
        if let (Some(currency), Some(rate)) = (attribute(&cube, "currency"), attribute(&cube, "rate")) {
            let day = day.ok_or(ReadError::Missing("a day"))?;
            sheet.fiat(&euro, &currency, parse_number(&rate).map_err(|error| error.to_string()), day);
        }
    }
    if sheet.is_empty() { Err(ReadError::Missing("rates")) } else { Ok(()) }
}

/// An attribute's text; none that we read ever has anything to unescape.
fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok()??;
    String::from_utf8(attribute.value.into_owned()).ok()
}
