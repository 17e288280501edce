//! `#[catch]`: the body becomes a closure, or a future, whose error is logged.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::visit_mut::{VisitMut, visit_type_mut};
use syn::{Error, Ident, ItemFn, LitStr, ReturnType, Token, Type, parse_quote};

pub(crate) fn expand(arguments: TokenStream, function: TokenStream) -> Result<TokenStream, Error> {
    let options: Options = syn::parse2(arguments)?;
    let ItemFn { attrs, vis, mut sig, block } = syn::parse2(function)?;
    if let Some(constant) = sig.constness.take() {
        return Err(Error::new_spanned(constant, "a `const fn` cannot log; take `const` or `#[catch]` away"));
    }
    let ReturnType::Type(_, returned) = &sig.output else {
        return Err(Error::new_spanned(&sig, "`#[catch]` is for functions that return a `Result`"));
    };
    let told = Told::new(&options, &sig.ident);
    let (on_error, on_panic) = (told.event(quote!(err = ::watchbell::err!(error))), told.on_panic());
    let returned = nameable((**returned).clone());
    let typed = quote!(if false { return ::watchbell::exception::never::<#returned>(); }); // what a `?` in the body converts to
    let body = quote!(#typed #block);
    let result = match (sig.asyncness.is_some(), options.panics) {
        (false, false) => quote!(::watchbell::exception::call(move || { #body })),
        (false, true) => quote!(::watchbell::exception::call_told(move || { #body }, #on_panic)),
        (true, false) => quote!(async move { #body }.await),
        (true, true) => quote!(::watchbell::exception::poll_told(async move { #body }, #on_panic).await),
    };
    Ok(quote! {
        #(#attrs)* #vis #sig {
            let result: #returned = #result;
            if let Err(error) = &result {
                #on_error
            }
            result
        }
    })
}

/// `impl Trait` cannot be written within a body: it is left to be found.
fn nameable(mut returned: Type) -> Type {
    struct Unnamed;
    impl VisitMut for Unnamed {
        fn visit_type_mut(&mut self, node: &mut Type) {
            match node {
                Type::ImplTrait(_) => *node = parse_quote!(_),
                _ => visit_type_mut(self, node),
            }
        }
    }
    Unnamed.visit_type_mut(&mut returned);
    returned
}

/// What an event says, whatever happened.
struct Told {
    level: TokenStream,
    function: String,
    message: String,
}

impl Told {
    fn new(options: &Options, name: &Ident) -> Self {
        Self {
            level: options.level.clone().unwrap_or_else(|| quote!(ERROR)),
            function: name.to_string(),
            message: options.message.clone().unwrap_or_else(|| format!("`{name}` failed")),
        }
    }

    fn event(&self, exception: TokenStream) -> TokenStream {
        let Self { level, function, message } = self;
        quote! {
            ::watchbell::tracing::event!(
                ::watchbell::tracing::Level::#level,
                #exception,
                code.function.name = ::core::concat!(::core::module_path!(), "::", #function),
                "{}",
                #message
            );
        }
    }

    fn on_panic(&self) -> TokenStream {
        let event = self.event(quote!("exception.type" = "panic", "exception.message" = message));
        quote!(|message: &str| { #event })
    }
}

/// `"cannot charge", level = "warn", panics`
#[derive(Default)]
struct Options {
    message: Option<String>,
    level: Option<TokenStream>,
    panics: bool,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self, Error> {
        let mut options = Self::default();
        while !input.is_empty() {
            if input.peek(LitStr) {
                options.message = Some(input.parse::<LitStr>()?.value());
            } else {
                options.named(input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

impl Options {
    fn named(&mut self, input: ParseStream<'_>) -> Result<(), Error> {
        let name: Ident = input.parse()?;
        match name.to_string().as_str() {
            "panics" => self.panics = true,
            "level" => {
                input.parse::<Token![=]>()?;
                self.level = Some(level(&input.parse()?)?);
            }
            _ => return Err(Error::new(name.span(), "write a message, `level = \"warn\"` or `panics`")),
        }
        Ok(())
    }
}

fn level(name: &LitStr) -> Result<TokenStream, Error> {
    match name.value().to_ascii_lowercase().as_str() {
        "error" => Ok(quote!(ERROR)),
        "warn" => Ok(quote!(WARN)),
        "info" => Ok(quote!(INFO)),
        "debug" => Ok(quote!(DEBUG)),
        "trace" => Ok(quote!(TRACE)),
        _ => Err(Error::new(name.span(), "not a level; write `error`, `warn`, `info`, `debug` or `trace`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        let function = quote!(
            fn charge() -> Result<(), Refused> {
                refuse()
            }
        );
        let error = |arguments, function| expand(arguments, function).unwrap_err().to_string();
        let options = "write a message, `level = \"warn\"` or `panics`";
        assert_eq!(error(quote!(panic), function.clone()), options);
        let levels = "not a level; write `error`, `warn`, `info`, `debug` or `trace`";
        assert_eq!(error(quote!("no", level = "loud"), function.clone()), levels);
        let returned = "`#[catch]` is for functions that return a `Result`";
        assert_eq!(
            error(
                quote!(),
                quote!(
                    fn charge() {}
                )
            ),
            returned
        );
        let constant = quote!(
            const fn charge() -> Result<(), Refused> {
                Ok(())
            }
        );
        assert!(error(quote!(), constant).starts_with("a `const fn` cannot log"));
        assert!(expand(quote!("no", panics, level = "WARN",), function).is_ok());
    }
}
