//! `tally sign`: a DeePay signature of pairs, for merchants who try the API by hand.

use tally_sign::SignType;

use crate::cli::{Common, SignArgs};
use crate::config::ConfigError;

pub(crate) fn run(args: &SignArgs, common: &Common) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    for pair in &args.pairs {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| ConfigError::new("sign", format!("{pair:?} is not key=value")))?;
        pairs.push((key.to_owned(), value.to_owned()));
    }
    let kind = if args.hmac { SignType::HmacSha256 } else { SignType::Md5 };
    if args.hmac && !pairs.iter().any(|(key, _)| key == "sign_type") {
        pairs.push(("sign_type".to_owned(), kind.as_str().to_owned()));
    }
    let sign = tally_sign::sign(&pairs, &args.key, kind);
    if common.json {
        println!("{}", serde_json::json!({ "sign": sign, "sign_type": kind.as_str() }));
    } else {
        println!("{sign}");
    }
    Ok(())
}
