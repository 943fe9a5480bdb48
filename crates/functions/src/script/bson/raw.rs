//! What the engine does to single values, where its safe interface copies, checks or refuses too much.
//!
//! Everything here takes values of a context that is entered, which the lifetime `'js` stands for.

use std::borrow::Cow;

use rquickjs::{Ctx, Error, Object, Result, Value, qjs};

/// The name of a property, interned for the lifetime of the engine.
///
/// The engine frees its names when it ends, so this one needs no freeing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name(qjs::JSAtom);

impl Name {
    /// The name that `key` is: a string or a symbol.
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, key: &Value<'js>) -> Result<Self> {
        // SAFETY: the context is entered, and `key` belongs to it.
        match unsafe { qjs::JS_ValueToAtom(ctx.as_raw().as_ptr(), key.as_raw()) } {
            qjs::JS_ATOM_NULL => Err(Error::Exception),
            atom => Ok(Self(atom)),
        }
    }
}

/// Takes a value that the engine returned, or the exception that it raised instead.
///
/// # Safety
/// `raw` was returned by the engine for this context, and nothing else owns it.
unsafe fn owned<'js>(ctx: &Ctx<'js>, raw: qjs::JSValue) -> Result<Value<'js>> {
    // SAFETY: as of the function.
    unsafe {
        if qjs::JS_IsException(raw) {
            return Err(Error::Exception);
        }
        Ok(Value::from_raw(ctx.clone(), raw))
    }
}

/// What tells an object from every other one while both are alive.
pub(crate) fn identity(value: &Value<'_>) -> usize {
    // SAFETY: the pointer is not followed; values that have none give some other number.
    unsafe { qjs::JS_VALUE_GET_PTR(value.as_raw()) as usize }
}

/// Defines an own property whatever its name, `__proto__` included.
pub(crate) fn define<'js>(object: &Object<'js>, key: &[u8], value: &Value<'js>) -> Result<()> {
    let ctx = object.ctx();
    // The engine expects UTF-8.
    let key = String::from_utf8_lossy(key);
    // SAFETY: the context is entered; the atom is freed once; the definition takes the value it is given,
    // which is a reference of its own.
    unsafe {
        let raw = ctx.as_raw().as_ptr();
        let atom = qjs::JS_NewAtomLen(raw, key.as_ptr().cast(), key.len() as _);
        if atom == qjs::JS_ATOM_NULL {
            return Err(Error::Exception);
        }
        let held = qjs::JS_DupValue(raw, value.as_raw());
        let flags = qjs::JS_PROP_C_W_E as qjs::c_int;
        let done = qjs::JS_DefinePropertyValue(raw, object.as_raw(), atom, held, flags);
        qjs::JS_FreeAtom(raw, atom);
        if done < 0 {
            Err(Error::Exception)
        } else {
            Ok(())
        }
    }
}

/// Defines an own property by a name that is at hand.
pub(crate) fn define_named<'js>(
    object: &Object<'js>,
    name: Name,
    value: &Value<'js>,
) -> Result<()> {
    // SAFETY: as in `define`; the name lives as long as the engine.
    unsafe {
        let raw = object.ctx().as_raw().as_ptr();
        let held = qjs::JS_DupValue(raw, value.as_raw());
        let flags = qjs::JS_PROP_C_W_E as qjs::c_int;
        if qjs::JS_DefinePropertyValue(raw, object.as_raw(), name.0, held, flags) < 0 {
            Err(Error::Exception)
        } else {
            Ok(())
        }
    }
}

/// Sets an element of an array that was made empty.
pub(crate) fn push<'js>(array: &Object<'js>, index: u32, value: &Value<'js>) -> Result<()> {
    // SAFETY: as in `define`.
    unsafe {
        let raw = array.ctx().as_raw().as_ptr();
        let held = qjs::JS_DupValue(raw, value.as_raw());
        let flags = qjs::JS_PROP_C_W_E as qjs::c_int;
        if qjs::JS_DefinePropertyValueUint32(raw, array.as_raw(), index, held, flags) < 0 {
            Err(Error::Exception)
        } else {
            Ok(())
        }
    }
}

/// Reads a property; this may run code of functions.
pub(crate) fn property<'js>(object: &Value<'js>, name: Name) -> Result<Value<'js>> {
    let ctx = object.ctx();
    // SAFETY: the context is entered, and the value and the name belong to it.
    unsafe {
        let raw = qjs::JS_GetProperty(ctx.as_raw().as_ptr(), object.as_raw(), name.0);
        owned(ctx, raw)
    }
}

/// Reads an element of an array or of what looks like one; this may run code of functions.
pub(crate) fn element<'js>(object: &Value<'js>, index: i64) -> Result<Value<'js>> {
    let ctx = object.ctx();
    // SAFETY: the context is entered, and the value belongs to it.
    unsafe {
        let raw = qjs::JS_GetPropertyInt64(ctx.as_raw().as_ptr(), object.as_raw(), index);
        owned(ctx, raw)
    }
}

/// The `length` of an array.
pub(crate) fn length(array: &Value<'_>) -> Result<i64> {
    let mut length = 0;
    // SAFETY: the context is entered, the value belongs to it, and `length` outlives the call.
    let done = unsafe {
        qjs::JS_GetLength(
            array.ctx().as_raw().as_ptr(),
            array.as_raw(),
            &raw mut length,
        )
    };
    if done < 0 {
        Err(Error::Exception)
    } else {
        Ok(length)
    }
}

/// An empty object with a prototype.
pub(crate) fn object_of<'js>(prototype: &Object<'js>) -> Result<Object<'js>> {
    let ctx = prototype.ctx();
    // SAFETY: the context is entered, and the prototype belongs to it.
    let value = unsafe {
        owned(
            ctx,
            qjs::JS_NewObjectProto(ctx.as_raw().as_ptr(), prototype.as_raw()),
        )?
    };
    Object::from_value(value)
}

/// The prototype of an object, null where it has none; a proxy may run code of functions for it.
pub(crate) fn prototype<'js>(object: &Value<'js>) -> Result<Value<'js>> {
    let ctx = object.ctx();
    // SAFETY: the context is entered, and the value belongs to it.
    unsafe {
        owned(
            ctx,
            qjs::JS_GetPrototype(ctx.as_raw().as_ptr(), object.as_raw()),
        )
    }
}

/// A date, in milliseconds since the Unix epoch; an invalid one where that is beyond what dates can say.
pub(crate) fn new_date<'js>(ctx: &Ctx<'js>, millis: f64) -> Result<Value<'js>> {
    // SAFETY: the context is entered.
    unsafe { owned(ctx, qjs::JS_NewDate(ctx.as_raw().as_ptr(), millis)) }
}

/// A string, of bytes that should be UTF-8; what is not is replaced.
pub(crate) fn new_string<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> Result<Value<'js>> {
    let text = String::from_utf8_lossy(bytes);
    // SAFETY: the context is entered, and the text outlives the call.
    unsafe {
        let raw =
            qjs::JS_NewStringLen(ctx.as_raw().as_ptr(), text.as_ptr().cast(), text.len() as _);
        owned(ctx, raw)
    }
}

/// A `Uint8Array` of a copy of the bytes.
pub(crate) fn new_bytes<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> Result<Value<'js>> {
    // SAFETY: the context is entered, and the bytes are copied.
    unsafe {
        let raw =
            qjs::JS_NewUint8ArrayCopy(ctx.as_raw().as_ptr(), bytes.as_ptr(), bytes.len() as _);
        owned(ctx, raw)
    }
}

/// Whether the value is a string. The engine has two forms of them.
pub(crate) fn is_string(value: &Value<'_>) -> bool {
    // SAFETY: it only looks at the tag.
    unsafe { qjs::JS_IsString(value.as_raw()) }
}

/// Whether the value is a bigint. The engine has two forms of them.
pub(crate) fn is_big_int(value: &Value<'_>) -> bool {
    // SAFETY: it only looks at the tag.
    unsafe { qjs::JS_IsBigInt(value.as_raw()) }
}

/// The object's class in the engine, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A `Date`.
    Date,
    /// A `RegExp`.
    RegExp,
    /// A `Map`.
    Map,
    /// A `Uint8Array`.
    Bytes,
    /// An `ArrayBuffer`.
    Buffer,
    /// Anything else.
    Other,
}

/// The class of an object, which its prototype cannot pretend.
pub(crate) fn class(object: &Value<'_>) -> Class {
    let raw = object.as_raw();
    // SAFETY: these look at the object only.
    unsafe {
        if qjs::JS_IsDate(raw) {
            Class::Date
        } else if qjs::JS_IsRegExp(raw) {
            Class::RegExp
        } else if qjs::JS_IsMap(raw) {
            Class::Map
        } else if qjs::JS_GetTypedArrayType(raw)
            == qjs::JSTypedArrayEnum_JS_TYPED_ARRAY_UINT8 as qjs::c_int
        {
            Class::Bytes
        } else if qjs::JS_IsArrayBuffer(raw) {
            Class::Buffer
        } else {
            Class::Other
        }
    }
}

/// Gives the bytes of a `Uint8Array` or `ArrayBuffer` to `read`, which must not run the engine.
pub(crate) fn with_bytes<R>(object: &Value<'_>, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
    let ctx = object.ctx().as_raw().as_ptr();
    let mut length = 0;
    // SAFETY: the context is entered and the value belongs to it; the bytes stay where they are as long as
    // the engine does not run, and `object` keeps them alive.
    unsafe {
        let bytes = if qjs::JS_IsArrayBuffer(object.as_raw()) {
            qjs::JS_GetArrayBuffer(ctx, &raw mut length, object.as_raw())
        } else {
            qjs::JS_GetUint8Array(ctx, &raw mut length, object.as_raw())
        };
        if length == 0 {
            if bytes.is_null() && qjs::JS_HasException(ctx) {
                return Err(Error::Exception);
            }
            return Ok(read(&[]));
        }
        if bytes.is_null() {
            return Err(Error::Exception);
        }
        Ok(read(std::slice::from_raw_parts(bytes, length as usize)))
    }
}

/// Gives the text of a string to `read`, which must not run the engine. Half surrogate pairs are replaced.
pub(crate) fn with_text<R>(string: &Value<'_>, read: impl FnOnce(&str) -> R) -> Result<R> {
    let ctx = string.ctx().as_raw().as_ptr();
    let mut length = 0;
    // SAFETY: the context is entered and the value belongs to it; the text is freed once, after its last use.
    unsafe {
        let text = qjs::JS_ToCStringLen2(ctx, &raw mut length, string.as_raw(), false);
        if text.is_null() {
            return Err(Error::Exception);
        }
        let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
        let result = read(&whole_pairs(bytes));
        qjs::JS_FreeCString(ctx, text);
        Ok(result)
    }
}

/// The text of a value's string form.
pub(crate) fn text(string: &Value<'_>) -> Result<String> {
    with_text(string, str::to_owned)
}

/// UTF-8 in which the engine's encodings of half surrogate pairs are replaced, each by one character.
fn whole_pairs(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut text = String::with_capacity(bytes.len());
            for chunk in bytes.utf8_chunks() {
                text.push_str(chunk.valid());
                // A half pair is three bytes, and each of them is a chunk of its own.
                if chunk.invalid().first() == Some(&0xED) {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
            Cow::Owned(text)
        }
    }
}

/// The value of a bigint where it fits 64 bits.
pub(crate) fn as_i64(value: &Value<'_>) -> Result<Option<i64>> {
    let ctx = value.ctx();
    let mut wrapped = 0;
    // SAFETY: the context is entered, the value belongs to it, and `wrapped` outlives the call.
    let done =
        unsafe { qjs::JS_ToBigInt64(ctx.as_raw().as_ptr(), &raw mut wrapped, value.as_raw()) };
    if done < 0 {
        return Err(Error::Exception);
    }
    let back = Value::new_big_int(ctx.clone(), wrapped)?;
    // SAFETY: both values belong to the context.
    let is_same =
        unsafe { qjs::JS_IsStrictEqual(ctx.as_raw().as_ptr(), back.as_raw(), value.as_raw()) };
    Ok(is_same.then_some(wrapped))
}

/// The own enumerable properties of an object by string, in order. Its names are freed with it.
pub(crate) struct Properties<'js> {
    object: Value<'js>,
    names: *mut qjs::JSPropertyEnum,
    count: u32,
}

impl<'js> Properties<'js> {
    /// The names as they are now; a proxy may run code of functions for them.
    pub(crate) fn of(object: &Value<'js>) -> Result<Self> {
        let mut names = std::ptr::null_mut();
        let mut count = 0;
        let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_ENUM_ONLY) as qjs::c_int;
        // SAFETY: the context is entered, the value belongs to it, and both places outlive the call.
        let done = unsafe {
            qjs::JS_GetOwnPropertyNames(
                object.ctx().as_raw().as_ptr(),
                &raw mut names,
                &raw mut count,
                object.as_raw(),
                flags,
            )
        };
        if done < 0 {
            return Err(Error::Exception);
        }
        Ok(Self {
            object: object.clone(),
            names,
            count,
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The name at an index, where there is one.
    pub(crate) fn name(&self, index: u32) -> Option<Name> {
        // SAFETY: the engine gave `count` names, and the index is below that.
        (index < self.count).then(|| Name(unsafe { (*self.names.add(index as usize)).atom }))
    }

    /// Gives the text of a name to `read`, which must not run the engine.
    pub(crate) fn with_name<R>(&self, name: Name, read: impl FnOnce(&str) -> R) -> Result<R> {
        let ctx = self.object.ctx().as_raw().as_ptr();
        let mut length = 0;
        // SAFETY: the context is entered and the name is alive; the text is freed once, after its last use.
        unsafe {
            let text = qjs::JS_AtomToCStringLen(ctx, &raw mut length, name.0);
            if text.is_null() {
                return Err(Error::Exception);
            }
            let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
            let result = read(&whole_pairs(bytes));
            qjs::JS_FreeCString(ctx, text);
            Ok(result)
        }
    }
}

impl Drop for Properties<'_> {
    fn drop(&mut self) {
        // SAFETY: the engine allocated the names for this context, and they are freed once.
        unsafe {
            qjs::JS_FreePropertyEnum(self.object.ctx().as_raw().as_ptr(), self.names, self.count);
        }
    }
}
