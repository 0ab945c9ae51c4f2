//! The script types that payments are made to, as values.
//!
//! Not here: text.

use tally_types::Script;

/// Where a payment goes, on chains of the Bitcoin family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Pay to the hash of a public key.
    P2pkh([u8; 20]),
    /// Pay to the hash of a script (BIP 16).
    P2sh([u8; 20]),
    /// The same with 32 bytes, on Bitcoin Cash.
    P2sh32([u8; 32]),
    /// A witness program: version 0 of 20 or 32 bytes, version 1 of 32.
    Witness {
        /// The version.
        version: u8,
        /// The program.
        program: Vec<u8>,
    },
}

const OP_1: u8 = 0x51;

impl Destination {
    /// The output script.
    pub(crate) fn to_script(&self) -> Result<Script, ()> {
        let bytes = match self {
            Self::P2pkh(hash) => [&[0x76, 0xa9, 0x14][..], hash, &[0x88, 0xac]].concat(),
            Self::P2sh(hash) => [&[0xa9, 0x14][..], hash, &[0x87]].concat(),
            Self::P2sh32(hash) => [&[0xaa, 0x20][..], hash, &[0x87]].concat(),
            Self::Witness { version, program } => {
                let opcode = if *version == 0 { 0 } else { OP_1.saturating_add(version.saturating_sub(1)) };
                let length = u8::try_from(program.len()).map_err(|_| ())?;
                [&[opcode, length][..], program].concat()
            }
        };
        Script::from_bytes(&bytes).map_err(|_| ())
    }

    /// What an output script pays to, if it is one of these types.
    pub(crate) fn from_script(script: &[u8]) -> Option<Self> {
        match script {
            [0x76, 0xa9, 0x14, hash @ .., 0x88, 0xac] => Some(Self::P2pkh(hash.try_into().ok()?)),
            [0xa9, 0x14, hash @ .., 0x87] => Some(Self::P2sh(hash.try_into().ok()?)),
            [0xaa, 0x20, hash @ .., 0x87] => Some(Self::P2sh32(hash.try_into().ok()?)),
            [0x00, length @ (20 | 32), program @ ..] if program.len() == usize::from(*length) => {
                Some(Self::Witness { version: 0, program: program.to_vec() })
            }
            [OP_1, 32, program @ ..] if program.len() == 32 => {
                Some(Self::Witness { version: 1, program: program.to_vec() })
            }
            _ => None,
        }
    }
}
