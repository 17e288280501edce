//! `#[derive(Redact)]`: a `Debug` as the derived one, but for the fields that are marked `#[redact]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, parse_quote};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream, Error> {
    let DeriveInput { ident, mut generics, data, .. } = syn::parse2(item)?;
    let arms = match &data {
        Data::Struct(data) => vec![arm(&quote!(Self), &ident, &data.fields)],
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let name = &variant.ident;
                arm(&quote!(Self::#name), name, &variant.fields)
            });
            arms.collect()
        }
        Data::Union(_) => return Err(Error::new(ident.span(), "a union has no `Debug`; make it a struct or an enum")),
    };
    generics.type_params_mut().for_each(|parameter| parameter.bounds.push(parse_quote!(::core::fmt::Debug)));
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::core::fmt::Debug for #ident #type_generics #where_clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#arms)* }
            }
        }
    })
}

fn arm(path: &TokenStream, name: &Ident, fields: &Fields) -> TokenStream {
    let name = name.to_string();
    let bound: Vec<_> = (0..fields.len()).map(|i| format_ident!("field_{i}")).collect();
    let members = fields.members();
    let shown = fields.iter().zip(&bound).map(|(field, value)| match field.attrs.iter().any(is_redact) {
        true => quote!(&::watchbell::redact::Secret::new(#value)),
        false => quote!(#value),
    });
    let shown = shown.collect::<Vec<_>>();
    let body = match fields {
        Fields::Named(fields) => {
            let names = fields.named.iter().map(|field| field.ident.as_ref().map(Ident::to_string));
            quote!(f.debug_struct(#name) #(.field(#names, #shown))* .finish())
        }
        Fields::Unnamed(_) => quote!(f.debug_tuple(#name) #(.field(#shown))* .finish()),
        Fields::Unit => quote!(f.write_str(#name)),
    };
    quote!(#path { #(#members: #bound),* } => #body,)
}

fn is_redact(attribute: &Attribute) -> bool {
    attribute.path().is_ident("redact")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_is_told_what_to_be() {
        let error = expand(quote!(union Either { a: u8, b: i8 })).unwrap_err().to_string();
        assert_eq!(error, "a union has no `Debug`; make it a struct or an enum");
    }
}
