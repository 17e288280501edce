//! The attributes of the crate `watchbell`, which documents them: use them from there.

mod catch;
mod redact;

use proc_macro::TokenStream;

/// Logs the error that a function returns, and hands it on.
#[proc_macro_attribute]
pub fn catch(arguments: TokenStream, function: TokenStream) -> TokenStream {
    catch::expand(arguments.into(), function.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// A `Debug` that shows `[redacted]` for fields that are marked.
#[proc_macro_derive(Redact, attributes(redact))]
pub fn redact(item: TokenStream) -> TokenStream {
    redact::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
