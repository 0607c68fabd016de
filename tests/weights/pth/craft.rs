//! Pickles and archives of every sort, those that `torch.save` does not write among them.

/// The instructions for a text.
pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn tuple(numbers: &[i32]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| [b"J".as_slice(), &number.to_le_bytes()].concat());
    [b"(".to_vec(), numbers.collect(), b"t".to_vec()].concat()
}

/// The instructions for a name and its tensor in the storage `0`.
pub fn tensor(name: &str, storage: &str, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let global = |path: &str| format!("c{path}\n").into_bytes();
    let storage = [
        b"(".to_vec(),
        text("storage"),
        global(&format!("torch\n{storage}")),
        text("0"),
        text("cpu"),
        b"K\x04tQ".to_vec(),
    ];
    let offset = [b"J".as_slice(), &offset.to_le_bytes()].concat();
    let parts = [storage.concat(), offset, tuple(shape), tuple(strides), b"\x89)".to_vec()].concat();
    [text(name), global("torch._utils\n_rebuild_tensor_v2"), b"(".to_vec(), parts, b"tR".to_vec()].concat()
}

/// The instructions for a dict of names with their values.
pub fn dict(items: &[Vec<u8>]) -> Vec<u8> {
    [b"}(".to_vec(), items.concat(), b"u".to_vec()].concat()
}

/// A pickle of one value.
pub fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

/// An archive.
pub struct Zip {
    /// Paths and bytes.
    pub entries: Vec<(&'static str, Vec<u8>)>,
    pub method: u16,
    pub flags: u16,
    /// With sizes and places of 64 bits.
    pub long: bool,
}

impl Zip {
    /// A value, with 16 bytes for tensors to lie in.
    pub fn saved(value: &[u8]) -> Self {
        let entries = vec![("a/data.pkl", pickle(value)), ("a/data/0", (0..16).collect())];
        Self { entries, method: 0, flags: 0, long: false }
    }

    /// The archive itself.
    pub fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (path, data) in &self.entries {
            directory.extend(self.entry(path, data.len(), bytes.len()));
            bytes.extend(b"PK\x03\x04");
            bytes.extend([0; 22]);
            bytes.extend((path.len() as u16).to_le_bytes());
            bytes.extend(3u16.to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.extend([0; 3]);
            bytes.extend(data);
        }
        let place = (directory.len() as u64, bytes.len() as u64);
        bytes.extend(directory);
        if self.long {
            let record = bytes.len() as u64;
            bytes.extend(b"PK\x06\x06");
            bytes.extend(44u64.to_le_bytes());
            bytes.extend([0; 12]);
            bytes.extend([self.entries.len() as u64; 2].map(u64::to_le_bytes).concat());
            bytes.extend([place.0.to_le_bytes(), place.1.to_le_bytes()].concat());
            bytes.extend(b"PK\x06\x07");
            bytes.extend([0; 4]);
            bytes.extend(record.to_le_bytes());
            bytes.extend([1, 0, 0, 0]);
        }
        bytes.extend(b"PK\x05\x06");
        bytes.extend([0; 4]);
        bytes.extend([if self.long { u16::MAX } else { self.entries.len() as u16 }; 2].map(u16::to_le_bytes).concat());
        bytes.extend([self.short(place.0), self.short(place.1)].concat());
        bytes.extend([0; 2]);
        bytes
    }

    fn short(&self, size: u64) -> [u8; 4] {
        if self.long { [0xff; 4] } else { (size as u32).to_le_bytes() }
    }

    fn entry(&self, path: &str, size: usize, at: usize) -> Vec<u8> {
        let (size, at) = (size as u64, at as u64);
        // A field of no interest first, then the one of 64-bit sizes.
        let long =
            [b"xx\x02\x00yy\x01\x00\x18\x00".as_slice(), &[size, size, at].map(u64::to_le_bytes).concat()].concat();
        let extra = if self.long { long } else { Vec::new() };
        [
            b"PK\x01\x02".as_slice(),
            &[0; 4],
            &self.flags.to_le_bytes(),
            &self.method.to_le_bytes(),
            &[0; 8],
            &[self.short(size), self.short(size)].concat(),
            &(path.len() as u16).to_le_bytes(),
            &(extra.len() as u16).to_le_bytes(),
            &[0; 10],
            &self.short(at),
            path.as_bytes(),
            &extra,
        ]
        .concat()
    }
}
